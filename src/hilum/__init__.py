"""Hilum: image representations from the structure radiology data already has."""
