"""Networks: the shared encoder, the decoders of pretraining, and the encoder's weights on disk."""
