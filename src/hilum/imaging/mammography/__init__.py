"""Mammograms: which files are taken, where the breast is, and one frame that all breasts are shown in (L 4.6)."""
