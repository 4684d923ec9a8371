"""Where studies come from: one archive per file, each read into the same study table (`hilum ingest`)."""
