"""Heads on frozen features, under one form (`fit.py`): linear, nearest neighbours, attentive; kept for an export."""
