"""`StudyBatch`: the one structure between the loader and everything that learns.

A batch of S studies holds the V views that exist, flat, with their owner; reports, teacher vectors and everything else
are rows with an owner in the same way. Absent means no row: there is no padding to slots, no availability mask and no
dummy image.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int, Int64, UInt8, UInt16
from torch import Tensor

from .vocabulary import VIEW_KINDS as VIEW_KINDS  # what `view_kind` counts in


class Vectors(NamedTuple):
    """A named set of teacher or target vectors: one row each, with the row index of what it describes."""

    values: Float[Tensor, "row dim"]
    owner: Int64[Tensor, " row"]


class Texts(NamedTuple):
    """Reports as token ids: start, words, end, then padding. A text cut at the length limit has no end.

    A study without a report has no row.
    """

    tokens: Int64[Tensor, "text token"]
    length: Int64[Tensor, " text"]  # tokens of a row that are not padding
    owner: Int64[Tensor, " text"]  # study
    section: Int64[Tensor, " text"]  # index into the sections of the tokens' table; -1: a placeholder, not a report


def make_no_texts() -> Texts:
    """No row at all: what a batch holds of studies without reports, or where nothing reads them."""
    none = torch.zeros(0, dtype=torch.int64)
    return Texts(torch.zeros(0, 2, dtype=torch.int64), none, none, none)


class Descriptions(NamedTuple):
    """Texts that images are compared with, of a breast or of a whole study, as a language model reads them.

    Two descriptions are identical where their facts are the same, or, without any facts, their texts.
    """

    tokens: Int64[Tensor, "text token"]  # with the language model's start and end, then padding
    length: Int64[Tensor, " text"]  # tokens of a row that are not padding; at least 1
    states: Float[Tensor, "text token dim"]  # what the language model made of the tokens, where stored (else dim 0)
    owner: Int64[Tensor, " text"]  # study
    laterality: Int64[Tensor, " text"]  # index into LATERALITIES; 0: the text is of each breast of the study
    key: Int64[Tensor, " text"]  # 64-bit name of the text: same number, same text
    facts: Bool[Tensor, "text fact"]  # what is said, each column one statement ("density: c")
    single_view: Bool[Tensor, " text"]  # whether the breast has a finding that one of its views alone shows


def make_no_descriptions() -> Descriptions:
    """No row at all: what a batch holds where nothing reads them."""
    return _NO_DESCRIPTIONS


def _build_no_descriptions() -> Descriptions:
    none = torch.zeros(0, dtype=torch.int64)
    never = none.bool()
    return Descriptions(none[:, None], none, torch.zeros(0, 1, 0), none, none, none, never[:, None][:, :0], never)


_NO_DESCRIPTIONS = _build_no_descriptions()  # made once: every batch of the other recipes holds it


@dataclass(frozen=True)
class StudyBatch:
    """S studies and the rows they own. All owner fields index studies of this batch, in 0..S-1.

    `pixels` leaves the loader as uint8 or uint16 crops on a common canvas, with `crop` saying which rectangle of it
    counts, and becomes normalised float of the model's size in `augment.prepare`, on the device, a batch at a time.
    What lies outside the rectangle is never read. The views of a study are neighbours, in their order in the cache.
    """

    patient: Int64[Tensor, " study"]  # index of the patient group in the cache: same number, same person
    dataset: Int64[Tensor, " study"]  # index into the cache's list of archives
    row: Int64[Tensor, " study"]  # row of the study in the cache: what side tables are keyed by
    key: Int64[Tensor, " study"]  # the study's lasting 64-bit name: with `draw` and a seed it keys every random number
    draw: Int64[Tensor, " study"]  # how many times the run drew this study before; 0 in evaluation
    pixels: (
        UInt8[Tensor, "view 1 height width"]
        | UInt16[Tensor, "view 1 height width"]
        | Float[Tensor, "view 1 height width"]
    )
    crop: Float[Tensor, "view 4"]  # top, left, height, width within `pixels`, in pixels
    view_kind: Int64[Tensor, " view"]  # index into VIEW_KINDS
    laterality: Int64[Tensor, " view"]  # index into LATERALITIES
    study: Int64[Tensor, " view"]  # owner
    view_row: Int64[Tensor, " view"]  # row of the image in the cache
    texts: Texts = field(default_factory=make_no_texts)
    vectors: dict[str, Vectors] = field(default_factory=dict)
    descriptions: Descriptions = field(default_factory=make_no_descriptions)

    @property
    def num_studies(self) -> int:
        return self.patient.shape[0]

    @property
    def num_views(self) -> int:
        return self.study.shape[0]

    def to(self, device: torch.device | str, non_blocking: bool = True) -> StudyBatch:
        """The same batch on `device`."""

        def move(value):
            if isinstance(value, Tensor):
                return value.to(device, non_blocking=non_blocking)
            if isinstance(value, dict):
                return {name: move(rows) for name, rows in value.items()}
            return type(value)(*(move(part) for part in value))  # rows of one kind

        return StudyBatch(**{entry.name: move(getattr(self, entry.name)) for entry in fields(self)})

    def pairs(self) -> Int64[Tensor, "2 pair"]:
        """Ordered pairs (u, v), u != v, of views of one study: the sum's index set of MVMAE eq. 1."""
        return same_owner_pairs(self.study).nonzero().T

    def view_index(self) -> Int64[Tensor, " view"]:
        """0, 1, 2, ... within each study: what tells its views apart in a random key, whatever else is in the batch."""
        position = torch.arange(self.num_views, device=self.study.device)
        counts = self.views_per_study()
        return position - (counts.cumsum(0) - counts)[self.study]

    def views_per_study(self) -> Int64[Tensor, " study"]:
        return torch.bincount(self.study, minlength=self.num_studies)


def same_owner_pairs(owner: Int[Tensor, " row"]) -> Bool[Tensor, "row row"]:
    """True where two different rows have the same owner."""
    same = owner[:, None] == owner[None, :]
    return same & ~torch.eye(len(owner), dtype=torch.bool, device=owner.device)


def pool_by_owner(
    rows: Float[Tensor, "row dim"], owner: Int64[Tensor, " row"], num_owners: int
) -> Float[Tensor, "owner dim"]:
    """Mean of the rows each owner has; an owner without rows gets zeros (callers that cannot have that assert it)."""
    total = rows.new_zeros(num_owners, rows.shape[1]).index_add(0, owner, rows)
    count = rows.new_zeros(num_owners).index_add(0, owner, torch.ones_like(owner, dtype=rows.dtype))
    return total / count.clamp(min=1).unsqueeze(1)
