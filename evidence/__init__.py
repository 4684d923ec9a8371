"""Programs behind what Hilum claims about learning: resumable, hours long, their results committed."""
