"""The objectives: each paper's equations as pure functions, and the bookkeeping that makes them exact anywhere."""
