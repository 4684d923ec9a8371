"""Teachers of the image encoder: vectors of studies, stored once in a table, dealt out with the batches."""
