"""Synthetic checkpoints of every layout that `hilum weights import` reads, and slow references of what they compute."""
