"""Text encoder of a BERT-like language model and a small transformer (MV-MLM; L 1.1, 1.4)."""

from __future__ import annotations

from typing import Annotated, Literal

from annotated_types import Ge
from pydantic.dataclasses import dataclass
from tyro.conf import Suppress

from hilum.ranges import Count, Fraction, Positive

from .convolution import Pooling
from .strict import STRICT


@dataclass(frozen=True, config=STRICT)
class LanguageModelConfig:
    """Shape of a BERT encoder; the defaults are BioClinicalBERT's."""

    vocabulary_size: Annotated[int, Ge(300)] = 28996
    """Tokens of the vocabulary, at most where it is learned."""
    width: Count = 768
    """Length of a token."""
    depth: Count = 12
    """Number of layers."""
    heads: Count = 12
    """Attention heads."""
    hidden: Count = 3072
    """Width of a layer's hidden layer."""
    positions: Count = 512
    """Longest text it has positions for, in tokens."""


@dataclass(frozen=True, config=STRICT)
class LanguageModelFile:
    """The folder that a run's language model was read from."""

    name: str
    """Its own name."""
    sha256: str
    """Of its config, vocabulary and weights."""


@dataclass(frozen=True, config=STRICT)
class TextEncoderConfig:
    """From the text of a breast or study to one vector."""

    language_model: LanguageModelConfig = LanguageModelConfig()
    tuned: bool = False
    """Train the language model too; else it is frozen, drops nothing, and its states can be stored."""
    stored: bool = True
    """Run a frozen language model once over every distinct text, and train on the states it gave (16 bit)."""
    lower_case: bool = False
    """Make texts lower-case before they become tokens. BioClinicalBERT's vocabulary is cased (L 1.4)."""
    length: Annotated[int, Ge(3)] = 256
    """Tokens of a text at most, start and end included."""
    width: Count = 512
    """Length of a token in the transformer."""
    depth: Annotated[int, Ge(0)] = 4
    """Transformer blocks over the language model's states."""
    heads: Count = 8
    """Attention heads."""
    mlp_ratio: Positive = 4.0
    """Width of a block's hidden layer, in token lengths."""
    dropout: Fraction = 0.1
    """Share of the numbers that is dropped after attention and in the hidden layer of a block, and throughout a
    language model that is trained, in training."""
    pooling: Pooling = "max"
    """What makes one vector of the tokens that are not padding."""
    projection: Count = 512
    """Numbers of the space in which images and texts are compared."""
    texts: Annotated[str | None, Suppress] = None
    """SHA-256 of the file that --texts named; None: the report sections of the study table are read."""
    source: Annotated[LanguageModelFile | None, Suppress] = None
    """What --language-model named; None: random weights, and a vocabulary learned from the training split's texts."""
    kind: Annotated[Literal["bert"], Suppress] = "bert"
