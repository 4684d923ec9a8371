"""The vector of each view that a run compared with texts or with the other view: `Features.embedding`, projected."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from jaxtyping import Float32, Int64
from rich.console import Console
from rich.progress import Progress

from hilum.batch import StudyBatch
from hilum.errors import UserError

from .subject import name_refused
from .viewing import Viewing


def show_views(
    viewing: Viewing, studies: Int64[np.ndarray, " study"], batch_views: int, title: str | None
) -> Iterator[StudyBatch]:
    """Every view of these studies of the cache, in batches; a bar of this name shows how far it is.

    Raises:
        UserError: images that the encoder refuses, by their names.
    """
    num_views = int(viewing.cache.studies["num_views"][studies].sum())
    with Progress(console=Console(stderr=True), disable=title is None) as bar:
        task = bar.add_task(title or "", total=num_views)
        for batch in viewing.show(batch_views, studies):
            with name_refused(viewing.cache, batch):
                yield batch
            bar.advance(task, batch.num_views)


@torch.inference_mode()
def project_views(
    viewing: Viewing, studies: Int64[np.ndarray, " study"], batch_views: int, title: str | None = None
) -> tuple[Int64[np.ndarray, " view"], Float32[np.ndarray, "view dim"]]:
    """Rows of the views of these studies, and the projected vector of each.

    Raises:
        UserError: the encoder has no such vector.
    """
    rows, vectors = [], []
    for batch in show_views(viewing, studies, batch_views, title):
        with torch.autocast(batch.pixels.device.type, torch.bfloat16, enabled=viewing.is_mixed):
            embedding = viewing.encoder.encode(batch.pixels, batch.view_kind).embedding
        if embedding is None:
            raise UserError("This encoder makes no projected vector, which runs of custom_clip, mv_clip and others do.")
        rows.append(batch.view_row.cpu().numpy())
        vectors.append(embedding.float().cpu().numpy())
    if not rows:
        return np.zeros(0, np.int64), np.zeros((0, 0), np.float32)
    return np.concatenate(rows), np.concatenate(vectors)
