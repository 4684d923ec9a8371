"""Segmentation from patch tokens: masks, decoders, and how well what they draw lies on the true mask (P 3.5)."""
