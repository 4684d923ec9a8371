"""Twelve-lead ECGs: files in, arrays as an encoder wants them out."""
