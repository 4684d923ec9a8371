"""The cache: written once from a study table (`writer.py`), read by everything after it (`reader.py`)."""

from .reader import SPLITS, Cache

__all__ = ["SPLITS", "Cache"]
