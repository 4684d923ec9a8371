"""Fine-tuning: encoder and head trained together, the best epoch by validation kept."""
