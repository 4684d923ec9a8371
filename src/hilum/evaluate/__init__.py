"""Evaluation: frozen features, probes beside their controls, fine-tuning, and intervals by patient."""
