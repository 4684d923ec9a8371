"""Report text: its sections."""
