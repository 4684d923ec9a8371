"""Tables of text: one column for each lead, one line for each sample."""

from __future__ import annotations

import numpy as np
import polars as pl

from .record import EcgRecord, RecordSource, normalize_lead, scale_to_millivolts
from .rejection import RejectedRecord, rejecting


def read_csv(source: RecordSource) -> EcgRecord:
    """The columns of a .csv file that are named like leads; blanks are missing samples.

    Raises:
        RejectedRecord: not a table, without rate, or with words where numbers are expected.
    """
    path, name = source.path, source.path.name
    if source.rate is None:
        raise RejectedRecord(name, "a .csv file does not say its rate. Give the sampling rate.")
    if source.leads is not None or source.row is not None:
        raise RejectedRecord(name, "leads and row are for .npy files: a .csv file names its leads in its first line.")
    with rejecting(path, "not a table of comma-separated values with the names of the leads in its first line"):
        # Names as they are: polars would rename the second of two equal ones.
        table = pl.read_csv(path, has_header=False, infer_schema=False, encoding="utf8-lossy")
    channels = [str(cell or "").strip() for cell in table.row(0)]
    columns = [place for place, channel in enumerate(channels) if normalize_lead(channel)]
    text = table.slice(1)
    samples = np.full((len(columns), len(text)), np.nan)
    for row, place in enumerate(columns):
        cells = text[:, place].str.strip_chars()
        cells = pl.select(pl.when(cells.str.to_lowercase().is_in(["", "nan"])).then(None).otherwise(cells)).to_series()
        values = cells.cast(pl.Float64, strict=False)
        if values.null_count() > cells.null_count():
            line = int((values.is_null() & cells.is_not_null()).arg_true()[0])
            raise RejectedRecord(name, f"column {channels[place]}, line {line + 2}: expected a number or a blank.")
        samples[row] = values.fill_null(np.nan).to_numpy()
    scale = scale_to_millivolts(source.unit)
    assert scale is not None, f"{source.unit} is none of the units"
    return EcgRecord(tuple(channels[place] for place in columns), samples * scale, source.rate, name)
