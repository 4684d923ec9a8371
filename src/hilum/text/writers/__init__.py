"""Language models that write text: one small interface, what was written kept on disk."""
