"""Small batches of breasts with texts, without a cache."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from batches import make_batch, take_studies
from hilum.batch import Descriptions, StudyBatch
from hilum.config import (
    Config,
    ConvEncoderConfig,
    ImageTextContrast,
    LanguageModelConfig,
    TextContrast,
    TextEncoderConfig,
    ViewContrast,
)

CC, MLO, LEFT, RIGHT = 3, 4, 1, 2
TINY = Config(
    recipe="mv_clip_tr",
    preset="hilum",
    size="nano",
    encoder=ConvEncoderConfig(
        backbone="test_byobnet", image_height=64, image_width=64, num_tokens=4, width=16, depth=1, heads=2,
        projection=8, dropout=0.0, statistics="frozen",
    ),
    text_encoder=TextEncoderConfig(
        language_model=LanguageModelConfig(300, 16, 1, 2, 32, 16), tuned=True, stored=False, lower_case=True,
        length=16, width=16, depth=1, heads=2, dropout=0.0, projection=8,
    ),
    terms={
        "image_text": ImageTextContrast(target="soft", num_texts=2),
        "views": ViewContrast(single_view_weight=0.5),
        "texts": TextContrast(temperature=0.5),
    },
)  # fmt: skip


def make_breasts(
    sides: Sequence[Sequence[tuple[int, int]]],
    *,
    patient: Sequence[int] | None = None,
    texts: Sequence[tuple[int, int]] | None = None,
    facts: Sequence[Sequence[int]] | None = None,
    keys: Sequence[int] | None = None,
    single_view: Sequence[int] = (),
    size: int = 64,
    seed: int = 0,
) -> StudyBatch:
    """Studies with the given views, each (laterality, kind).

    Args:
        texts: (study, laterality) of each; by default one a breast that is shown, in order.
        facts: What each text states, as columns; none: no facts at all.
        keys: Names of the texts; by default all differ.
        single_view: Texts of breasts with a finding that one view alone shows.
    """
    views = [view for study in sides for view in study]
    batch = make_batch(
        [len(study) for study in sides], size=size, seed=seed, patient=patient, kinds=[kind for _, kind in views]
    )
    if texts is None:
        texts = [(study, side) for study, shown in enumerate(sides) for side in sorted({side for side, _ in shown})]
    random = torch.Generator().manual_seed(seed + 1)
    length = torch.randint(2, 9, (len(texts),), generator=random)
    tokens = torch.randint(4, 300, (len(texts), 8), generator=random)
    tokens = tokens.masked_fill(torch.arange(8) >= length[:, None], 0)
    stated = torch.zeros(len(texts), 6, dtype=torch.bool)
    for row, columns in enumerate(facts or ()):
        stated[row, list(columns)] = True
    alone = torch.zeros(len(texts), dtype=torch.bool)
    alone[list(single_view)] = True
    owner, laterality = torch.tensor(texts, dtype=torch.int64).reshape(-1, 2).unbind(1)
    descriptions = Descriptions(
        tokens, length, torch.zeros(len(texts), 8, 0), owner, laterality,
        torch.arange(len(texts)) if keys is None else torch.tensor(keys), stated, alone,
    )  # fmt: skip
    return replace(batch, laterality=torch.tensor([side for side, _ in views]), descriptions=descriptions)


def take_breasts(batch: StudyBatch, studies: Sequence[int]) -> StudyBatch:
    """The batch of only these studies, in this order."""
    found = [
        (place, row)
        for place, study in enumerate(studies)
        for row in (batch.descriptions.owner == study).nonzero()[:, 0].tolist()
    ]
    rows = [row for _, row in found]
    texts = Descriptions(*(part[rows] for part in batch.descriptions))
    owner = torch.tensor([place for place, _ in found], dtype=torch.int64)
    return replace(take_studies(batch, studies), descriptions=texts._replace(owner=owner))


BOTH = [(LEFT, CC), (LEFT, MLO), (RIGHT, CC), (RIGHT, MLO)]


def make_mixed() -> StudyBatch:
    """Six studies of five patients: whole ones, one breast, missing views, double views, no text, two texts."""
    return make_breasts(
        [
            BOTH, BOTH, [(LEFT, CC), (LEFT, MLO)], [(RIGHT, MLO)],
            [(LEFT, CC), (LEFT, CC), (LEFT, MLO), (RIGHT, CC)], BOTH,
        ],
        patient=[0, 1, 2, 3, 4, 1],
        texts=[(0, 1), (0, 2), (1, 1), (1, 1), (1, 2), (2, 0), (3, 2), (4, 1), (5, 1), (5, 2)],
        facts=[[0, 1], [0, 2], [0, 1], [0, 1], [1, 3], [0, 1], [4], [1, 3], [], [0, 1, 2]],
        single_view=[1, 5],
    )  # fmt: skip
