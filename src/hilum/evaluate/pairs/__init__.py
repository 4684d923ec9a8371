"""Held-out pairs of a breast: its images and its text, its CC and its MLO view (L 3.3)."""
