"""One self-contained HTML page on an archive, a run and its evaluation; every number is read from a file."""
