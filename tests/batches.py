"""Small batches of studies without a cache."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from hilum.batch import StudyBatch, Texts, Vectors, make_no_texts
from hilum.model.masking import Mask

# For terms that look at features only.
NO_MASK = Mask(torch.empty(0, 0, dtype=torch.int64), torch.empty(0, 0, dtype=torch.int64))


def make_batch(
    views: Sequence[int],
    *,
    size: int = 32,
    seed: int = 0,
    patient: Sequence[int] | None = None,
    kinds: Sequence[int] | None = None,
    words: Sequence[Sequence[int] | None] | None = None,
    vectors: Mapping[str, Vectors] | None = None,
) -> StudyBatch:
    """Studies with the given numbers of views: noise as pixels, and frontal, lateral, unknown views in turn.

    Args:
        words: Of each study's report, without start (2) and end (3); None: a study without a report.
        vectors: Teachers' vectors by name, see `make_vectors`.
    """
    num_studies, num_views = len(views), sum(views)
    study = torch.repeat_interleave(torch.arange(num_studies), torch.tensor(views))
    order = [view for number in views for view in range(number)]
    return StudyBatch(
        patient=torch.arange(num_studies) if patient is None else torch.tensor(patient),
        dataset=torch.zeros(num_studies, dtype=torch.int64),
        row=torch.arange(num_studies),
        key=1000 * (seed + 1) + torch.arange(num_studies),
        draw=torch.zeros(num_studies, dtype=torch.int64),
        pixels=torch.randn(num_views, 1, size, size, generator=torch.Generator().manual_seed(seed)),
        crop=torch.tensor([0.0, 0.0, size, size]).repeat(num_views, 1),
        view_kind=torch.tensor([index % 3 for index in order] if kinds is None else kinds),
        laterality=torch.zeros(num_views, dtype=torch.int64),
        study=study,
        view_row=torch.arange(num_views),
        texts=make_no_texts() if words is None else make_texts(words),
        vectors=dict(vectors or {}),
    )


def make_vectors(width: int, studies: Sequence[int], seed: int = 0) -> Vectors:
    """A teacher's vectors of these studies: noise."""
    values = torch.randn(len(studies), width, generator=torch.Generator().manual_seed(seed))
    return Vectors(values, torch.tensor(studies, dtype=torch.int64))


def make_texts(words: Sequence[Sequence[int] | None], width: int = 0) -> Texts:
    """A row for each study that has words, at least `width` tokens wide."""
    rows = [[2, *own, 3] for own in words if own is not None]
    if not rows:
        return make_no_texts()
    width = max(width, *(len(row) for row in rows))
    return Texts(
        torch.tensor([row + [0] * (width - len(row)) for row in rows]),
        torch.tensor([len(row) for row in rows]),
        torch.tensor([study for study, own in enumerate(words) if own is not None]),
        torch.zeros(len(rows), dtype=torch.int64),
    )


def take_studies(batch: StudyBatch, studies: Sequence[int]) -> StudyBatch:
    """The batch of only these studies, in this order."""
    chosen = torch.tensor(studies, dtype=torch.int64)
    views = torch.cat([(batch.study == owner).nonzero()[:, 0] for owner in studies])
    per_study = batch.views_per_study()[chosen]
    texts = [int(row) for study in studies for row in (batch.texts.owner == study).nonzero()[:, 0]]
    owner = [place for place, study in enumerate(studies) for _ in (batch.texts.owner == study).nonzero()]
    vectors = {}
    for name, rows in batch.vectors.items():
        found = [
            (place, row) for place, one in enumerate(studies) for row in (rows.owner == one).nonzero()[:, 0].tolist()
        ]
        places, chosen_rows = ([pair[part] for pair in found] for part in (0, 1))
        vectors[name] = Vectors(rows.values[chosen_rows], torch.tensor(places, dtype=torch.int64))
    return StudyBatch(
        patient=batch.patient[chosen],
        dataset=batch.dataset[chosen],
        row=batch.row[chosen],
        key=batch.key[chosen],
        draw=batch.draw[chosen],
        pixels=batch.pixels[views],
        crop=batch.crop[views],
        view_kind=batch.view_kind[views],
        laterality=batch.laterality[views],
        study=torch.repeat_interleave(torch.arange(len(studies)), per_study),
        view_row=batch.view_row[views],
        texts=Texts(*(rows[texts] for rows in batch.texts))._replace(owner=torch.tensor(owner, dtype=torch.int64)),
        vectors=vectors,
    )
