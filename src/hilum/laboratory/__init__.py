"""Laboratory values: from a hospital's tables to percentiles, their auto-encoder, and a vector for each row.

tables (wide, long) -> study table (`studies.py`) -> `LaboratoryTable` -> percentiles -> auto-encoder -> vectors

Readers and files need polars; the table, percentiles, training and embedding do not.
"""
