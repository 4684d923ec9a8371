"""Public image encoders, read like Hilum's own: what the field would use instead. One encoder, one short function."""
