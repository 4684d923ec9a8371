"""How real X-rays look: the curves that a report draws beside an archive's own.

Grey histograms and power spectra (`hilum.imaging.statistics`) of all images of the three sets of `real_xrays.py`, by
kind of view, through ingest and cache like any archive. Writes `src/hilum/report/real_xrays.json`: aggregates over
hundreds of images, no picture and nothing of a single one.

Needs the data sets in HILUM_REAL_DATA (or ../shared/data); work is kept in runs/evidence/real.
"""

from __future__ import annotations

import hashlib
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from rich.console import Console

from evidence.real_xrays import ROOT, SETS, WORK, ingest_sets
from hilum.cache import Cache
from hilum.cache.writer import build_cache
from hilum.checksums import hash_file
from hilum.evaluate.result import write_json
from hilum.imaging.statistics import SIDE
from hilum.report.look_section import KINDS, measure_look
from hilum.study import read_studies, write_studies

OUT = Path("src/hilum/report/real_xrays.json")
TITLES = {
    "cxr_multiview": "COVID-19 image data collection (Cohen et al. 2020), CC BY and CC BY-NC-SA",
    "nih": "ChestX-ray14, 829 images of it (Wang et al. 2017), unrestricted use",
    "hannover_cxr_labs": "COVID-19 image repository (Hannover Medical School, doi 10.25835/0090041), CC BY 3.0",
}


def main() -> None:
    """Measure and write; a minute."""
    together = WORK / "look.parquet"
    if not together.exists():
        studies = pl.concat([read_studies(table) for table in ingest_sets()], how="diagonal")
        write_studies(studies.with_columns(split=pl.lit("train")), together)
    build_cache(together, WORK / "cache-look", workers=2, short_side=SIDE)
    cache = Cache.open(WORK / "cache-look")
    looks = {kind: measure_look(cache, kind, None) for kind in KINDS}
    write_json(
        OUT,
        {
            "made_by": "python -m evidence real_statistics",
            "policy": cache.policy,
            "images_sha256": hashlib.sha256(b"".join(sorted(map(bytes, cache.views["content_hash"])))).hexdigest(),
            "datasets": [describe_set(cache, name) for name in SETS],
            "looks": {kind: round_numbers(asdict(look)) for kind, look in looks.items() if look},
        },
    )
    counts = ", ".join(f"{look.num_images} {kind}" for kind, look in looks.items() if look)
    Console(stderr=True).print(f"{OUT}: {counts} images, {OUT.stat().st_size / 1024:.0f} KiB")


def describe_set(cache: Cache, name: str) -> dict[str, Any]:
    """Name, licence, counts and hash of the list of files (which holds each file's sha256)."""
    dataset = cache.studies["dataset"] == cache.datasets.index(name)
    view = dataset[cache.views["study"]]
    kinds = cache.views["view_kind"][view]
    return {
        "name": name,
        "title": TITLES[name],
        "patients": len(np.unique(cache.studies["patient"][dataset])),
        "images": {kind: int((kinds == number).sum()) for number, kind in enumerate(KINDS)},
        "manifest_sha256": hash_file(ROOT / name / "manifest.csv"),
    }


def round_numbers(value: Any) -> Any:
    """Arrays as lists of four significant digits: more would be the images' chance."""
    if isinstance(value, dict):
        return {name: round_numbers(part) for name, part in value.items()}
    return [float(f"{number:.4g}") for number in value.tolist()] if isinstance(value, np.ndarray) else value
