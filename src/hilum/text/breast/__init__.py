"""Words for one breast: its canonical record, texts made from it, and the check that a text says what it holds."""
