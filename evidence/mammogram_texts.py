"""What the images of a breast are compared with: four texts of the same breasts, from poor to rich.

- table: fields and values, one text a breast, nothing left out;
- template: one report a breast by our grammar from the same table;
- varied: four texts a breast in all styles, fields left out at random: what `hilum text write` does by itself;
  these three also say where a finding is, as far as its boxes tell;
- radiologist: the phantom's own reports, which also say what is plainly benign, what was before, where it is and how
  sure the reader is; the part on a breast, with the composition before it.

Which descriptions are identical or alike, and which findings one view shows, is for all of them what the table says.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

import polars as pl

from evidence.mammogram_caches import WORK
from hilum.breasts import tabulate_breasts
from hilum.cache import Cache
from hilum.text.breast.corpus import CorpusSettings, write_corpus, write_text_table
from hilum.text.breast.study_breasts import open_records

Texts = Literal["table", "template", "varied", "radiologist"]
WRITTEN: dict[Texts, CorpusSettings] = {
    "table": CorpusSettings(num_variants=1, styles=("kv",), dropout=0.0),
    "template": CorpusSettings(num_variants=1, styles=("report",), dropout=0.0),
    "varied": CorpusSettings(),
}
_SIDES = {"L": "left", "R": "right"}
# The reader tells of the left breast first.
_RIGHT = re.compile(r"(?=Right breast:|The right breast )")


def name_texts(name: Texts) -> Path:
    """Their file."""
    return WORK / f"texts-{name}.parquet"


def prepare_texts(cache: Cache) -> None:
    """Write what is missing."""
    studies = cache.table()
    for name, settings in WRITTEN.items():
        if not name_texts(name).exists():
            write_text_table(write_corpus(open_records(cache.path), settings).texts, name_texts(name))
    if not name_texts("radiologist").exists():
        write_text_table(split_reports(WORK / "archive", studies), name_texts("radiologist"))


def split_reports(archive: Path, studies: pl.DataFrame) -> pl.DataFrame:
    """The parts of the radiologist's reports on single breasts, with the table's facts."""
    reports = pl.read_csv(archive / "exams.csv", infer_schema=False)
    rows = []
    for exam in reports.iter_rows(named=True):
        findings, impressions = (split_sides(exam[name]) for name in ("findings", "impression"))
        rows += [
            {"study": exam["exam_id"], "laterality": side,
             "text": f"{exam['comparison']} {exam['composition']} {findings[side]} {impressions[side]}"}
            for side in _SIDES.values()
        ]  # fmt: skip
    known = pl.read_parquet(name_texts("table")).select("dataset", "study", "laterality", "facts", "single_view")
    breasts = tabulate_breasts(studies).select("dataset", "study", "laterality")
    return known.join(breasts, on=breasts.columns, maintain_order="left").join(
        pl.DataFrame(rows), on=["study", "laterality"], maintain_order="left"
    )


def split_sides(section: str) -> dict[str, str]:
    """What a section says of each breast."""
    left, right = _RIGHT.split(section, maxsplit=1)
    return {"left": left.strip(), "right": right.strip()}
