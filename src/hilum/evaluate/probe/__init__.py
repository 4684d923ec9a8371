"""Probes: heads on frozen features, beside their controls, with all labels and with few, of one view and of two."""
