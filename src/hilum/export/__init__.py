"""Bundles: an encoder with its trained head as files that other code runs, written, checked and read."""
