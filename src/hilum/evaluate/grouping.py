"""From studies to the rows of a task: whose views are whose, and a batch in which breasts or images stand for studies.

Cache and loader know studies. A task of breasts or of images has several rows in one; a row's answer is the mean of the
logits of the views that it owns, as a study's is.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Int64

from hilum.batch import StudyBatch
from hilum.cache import Cache

from .task import Task

NOBODY = -1  # in the place of the row that owns a view


def list_owners(cache: Cache, task: Task) -> Int64[np.ndarray, " view"]:
    """The row of the task that owns each view of the cache; NOBODY where none does.

    Raises:
        UserError: several rows own one view.
    """
    task.check_views_are_rows()
    match task.unit:
        case "study":
            return cache.views["study"].astype(np.int64)
        case "breast":
            assert task.owner is not None, "a task of breasts knows whose each view is"
            return task.owner
        case "view":
            return np.arange(len(cache.views))


def keep_owners(owner: Int64[np.ndarray, " view"], rows: Int64[np.ndarray, " row"]) -> Int64[np.ndarray, " view"]:
    """The owners among `rows`; views of all others are NOBODY's."""
    return np.where(np.isin(owner, rows), owner, NOBODY)


def list_studies(cache: Cache, owner: Int64[np.ndarray, " view"]) -> Int64[np.ndarray, " study"]:
    """Rows of the studies with a view that somebody owns, ascending."""
    return np.unique(cache.views["study"][owner != NOBODY]).astype(np.int64)


def group_views(batch: StudyBatch, owner: Int64[np.ndarray, " view"]) -> StudyBatch:
    """The batch with owners of views in the place of its studies: `row` is the owner and `study` whose each view is.

    Views of NOBODY are left out, and so are texts and vectors, which are of studies. A study drawn twice owns twice.
    Views of one owner need not be neighbours. Of owners that are the studies themselves it is the same batch.
    """
    found = torch.from_numpy(owner).to(batch.view_row.device)[batch.view_row]
    kept = found != NOBODY
    most = int(owner.max()) + 1
    groups, place = torch.unique(batch.study[kept] * most + found[kept], return_inverse=True)
    study, views = groups // most, slice(None) if bool(kept.all()) else kept
    of_studies = {name: getattr(batch, name)[study] for name in ("patient", "dataset", "key", "draw")}
    of_views = {name: getattr(batch, name)[views] for name in ("pixels", "crop", "view_kind", "laterality", "view_row")}
    return StudyBatch(**of_studies, **of_views, row=groups % most, study=place)
