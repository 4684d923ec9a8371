"""Programs that measure the hot paths; each prints a table and writes JSON under results/bench."""
