"""Which words of a study's report are learned from."""

from __future__ import annotations

from typing import Annotated, Literal

from annotated_types import Ge
from pydantic.dataclasses import dataclass
from tyro.conf import Suppress

from hilum.ranges import Count, Fraction

from .strict import STRICT

# Sections of a study table that hold a whole report, as ingest names them.
WHOLE_REPORT = ("report",)


@dataclass(frozen=True, config=STRICT)
class TextConfig:
    """From report sections to tokens."""

    sections: tuple[str, ...] = ("findings", "impression")
    """Sections of a report that are read, joined in this order."""
    fallback: tuple[str, ...] = WHOLE_REPORT
    """Sections read instead of a study that has none of these."""
    leave_out: tuple[str, ...] = ()
    """Archives whose reports are not read, such as those in another language."""
    placeholder: str | None = None
    """Text of studies without one, which then count as in the released code; None: no text, no part in the term."""
    vocabulary_size: Annotated[int, Ge(300)] = 8000
    """Tokens of the vocabulary that is learned from the training split's reports (256 of them are single bytes)."""
    vocabulary: Annotated[str | None, Suppress] = None
    """SHA-256 of the file that --vocabulary named; None: learned from the training split's reports."""
    length: Annotated[int, Ge(2)] = 128
    """Tokens of a report that are predicted at most, its end included."""
    start: Literal["start", "pad"] = "start"
    """What stands before the first word: a token of its own, or padding, as the paper says."""


@dataclass(frozen=True, config=STRICT)
class ReportDecoder:
    """Causal pre-norm decoder with positions, tied embeddings and cross-attention to visible tokens (M 7.3 E)."""

    width: Count = 512
    """Length of a decoder token."""
    depth: Count = 6
    """Number of decoder blocks."""
    heads: Count = 8
    """Attention heads."""
    mlp_ratio: Annotated[float, Ge(0.1)] = 4.0
    """Width of a block's hidden layer, in token lengths."""
    kind: Annotated[Literal["report"], Suppress] = "report"


@dataclass(frozen=True, config=STRICT)
class ReleasedReportDecoder:
    """The released code's post-norm decoder without biases, of the encoder's width (M 2.6)."""

    width: Count = 768
    """Length of a decoder token; that of the encoder."""
    depth: Count = 4
    """Number of decoder blocks."""
    heads: Count = 8
    """Attention heads."""
    mlp_ratio: Annotated[float, Ge(0.1)] = 1.0
    """Width of a block's hidden layer, in token lengths."""
    dropout: Fraction = 0.0
    """Probability that a value within a block is dropped in training (0.1 in the released code)."""
    text_positions: bool = True
    """Learned vectors for the places in a text; the released code has none."""
    swapped_positions: bool = False
    """Look image positions up through the inverse permutation, as the released code does by mistake (M 2.6, bug 1)."""
    view_table: Literal["own", "encoder", "reconstruction"] = "own"
    """Whose vectors tell kinds of views apart: its own, the encoder's, or the reconstruction decoder's."""
    kind: Annotated[Literal["released"], Suppress] = "released"
