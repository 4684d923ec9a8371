"""An encoder of images as a teacher: one vector for each study, the mean over its views."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from hilum.cache import Cache
from hilum.evaluate.asked import find_asked
from hilum.evaluate.features import Precision, Representation, embed_cache
from hilum.training.run_folder import read_seen

from .table import write_teacher_table


def write_image_vectors(
    encoder: Path | str,
    data: Path,
    out: Path,
    *,
    representation: Representation = "mean",
    batch_views: int = 256,
    precision: Precision = "auto",
) -> None:
    """A teacher's table of all studies of a cache.

    Args:
        encoder: A run folder, its weights, or a public encoder (`evaluate/asked.py`), which lists no patients.
        representation: What is read of each image.
    """
    cache = Cache.open(data)
    asked = find_asked(encoder)
    people = read_seen(asked).listed.people if isinstance(asked, Path) else {}
    grid = int(representation[0]) if representation in ("2x2", "4x4") else None
    features = embed_cache(cache, encoder, batch_views=batch_views, grid=grid, precision=precision)
    of_view = features.read(representation)
    sums = np.zeros((len(cache.studies), of_view.shape[1]), np.float64)
    np.add.at(sums, features.study, of_view)
    counts = np.bincount(features.study, minlength=len(sums))
    rows = np.flatnonzero(counts)
    write_teacher_table(
        out,
        cache.table().select("dataset", "study", "group", "split")[rows],
        (sums[rows] / counts[rows, None]).astype(np.float32),
        made_by={"teacher": "images", "representation": representation, **features.made_by},
        people=people,
    )
