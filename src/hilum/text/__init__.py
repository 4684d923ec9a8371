"""Report text: which sections are read, and how they become tokens."""
