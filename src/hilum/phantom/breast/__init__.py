"""The embedded mammography archive: a 3-D breast in two compressions, its findings, reader, reports and outcomes."""
