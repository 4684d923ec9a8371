"""Decoders of reports: from the visible tokens of a study to the words that were written about it.

Both kinds read a `Memory` and predict every word either from the words before it or, with all words hidden, at once
(CapPa, Tschannen et al. 2023). They return hidden vectors; what makes words of them is `words`, so that the loss can
take a few rows at a time and never holds a score for every word of the vocabulary at every place of a batch.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from hilum.batch import StudyBatch
from hilum.config import EncoderConfig
from hilum.config import ReleasedReportDecoder as ReleasedReportDecoderConfig
from hilum.config import ReportDecoder as ReportDecoderConfig
from hilum.text.report_tokens import TextLayout

from .attention import BlockNorm, CrossBlock, SelfAttention, enter_blocks
from .init import initialize


class Memory(NamedTuple):
    """Image tokens that a row of words is predicted from; each carries its position and its kind of view."""

    tokens: Float[Tensor, "row token dim"]
    present: Bool[Tensor, "row token"] | None  # False where a row is filled up; None: all are tokens

    def take(self, rows: Tensor) -> Memory:
        """Some rows, by index or by truth value."""
        return Memory(self.tokens[rows], None if self.present is None else self.present[rows])


class AnyReportDecoder(nn.Module, ABC):
    """What both decoders do."""

    view_table = "own"  # whose vectors of view kinds `place` adds

    @abstractmethod
    def place(
        self,
        tokens: Float[Tensor, "view token dim"],
        visible: Int64[Tensor, "view visible"],
        view_kind: Int64[Tensor, " view"],
        view_vectors: Float[Tensor, "view dim"] | None = None,
    ) -> Float[Tensor, "view token dim"]:
        """The encoder's tokens with vectors for their patches (the class token has one of its own) and view kinds.

        view_vectors: those of another module, where the decoder has no table (`view_table`).
        """

    @abstractmethod
    def forward(self, words: Int64[Tensor, "row token"], memory: Memory) -> Float[Tensor, "row token width"]:
        """Hidden vectors, each of which sees its word, the words before it, and the memory."""

    @abstractmethod
    def predict_at_once(self, num_tokens: int, memory: Memory) -> Float[Tensor, "row token width"]:
        """Hidden vectors of the first places of a text of which no word is seen; all see each other."""

    @property
    @abstractmethod
    def words(self) -> Float[Tensor, "word width"]:
        """The score of a word is the product of its row with a hidden vector."""


class ReportBlock(nn.Module):
    """Pre-norm: words see the words before them (or all places each other), then image tokens, then an MLP."""

    def __init__(self, width: int, heads: int, mlp_ratio: float, key_width: int) -> None:
        super().__init__()
        self.norm = BlockNorm(width)
        self.attn = SelfAttention(width, heads, qkv_bias=True)
        self.cross = CrossBlock(width, heads, mlp_ratio, key_width)

    def forward(
        self, hidden: Float[Tensor, "row token dim"], memory: Memory, allowed: Bool[Tensor, "1 1 token token"] | None
    ) -> Float[Tensor, "row token dim"]:
        hidden = hidden + self.attn(self.norm(hidden), attn_mask=allowed)
        return self.cross(hidden, memory.tokens, memory.present)


class ReportDecoder(AnyReportDecoder):
    """Hilum's: pre-norm, learned places in the text, one table of words for input and output (M 7.3 E)."""

    def __init__(self, config: ReportDecoderConfig, encoder: EncoderConfig, layout: TextLayout) -> None:
        super().__init__()
        width = config.width
        self.word_embed = nn.Parameter(torch.empty(layout.num_words, width))
        self.text_pos_embed = nn.Parameter(torch.empty(layout.length, width))
        self.mask_token = nn.Parameter(torch.empty(1, 1, width))
        self.pos_embed = nn.Parameter(torch.empty(1, 1 + encoder.num_patches, encoder.width))
        has_table = encoder.view_embedding
        self.view_embed = nn.Parameter(torch.empty(encoder.num_view_kinds, encoder.width)) if has_table else None
        self.blocks = nn.ModuleList(
            ReportBlock(width, config.heads, config.mlp_ratio, encoder.width) for _ in range(config.depth)
        )
        self.norm = BlockNorm(width)
        initialize(self, encoder.init)

    def place(
        self,
        tokens: Float[Tensor, "view token dim"],
        visible: Int64[Tensor, "view visible"],
        view_kind: Int64[Tensor, " view"],
        view_vectors: Float[Tensor, "view dim"] | None = None,
    ) -> Float[Tensor, "view token dim"]:
        assert view_vectors is None, "it has a table of its own"
        tokens = tokens + F.embedding(_add_class_row(visible), self.pos_embed[0])
        return tokens if self.view_embed is None else tokens + F.embedding(view_kind, self.view_embed)[:, None]

    def forward(self, words: Int64[Tensor, "row token"], memory: Memory) -> Float[Tensor, "row token width"]:
        return self._decode(F.embedding(words, self.word_embed), memory, _forbid_later(words.shape[1], words.device))

    def predict_at_once(self, num_tokens: int, memory: Memory) -> Float[Tensor, "row token width"]:
        return self._decode(self.mask_token.expand(len(memory.tokens), num_tokens, -1), memory, None)

    @property
    def words(self) -> Float[Tensor, "word width"]:
        return self.word_embed

    def _decode(self, hidden: Tensor, memory: Memory, allowed: Tensor | None) -> Tensor:
        hidden = enter_blocks(hidden + self.text_pos_embed[: hidden.shape[1]])
        memory = Memory(memory.tokens.to(hidden.dtype), memory.present)
        for block in self.blocks:
            hidden = block(hidden, memory, allowed)
        return self.norm(hidden)


class ReleasedReportDecoder(AnyReportDecoder):
    """The released code's decoder, by torch's layers and the released parameter names (M 2.6, M 6.1).

    Post-norm, without biases, tables of words of its own for input and output. Preset `code` also has its dropout, no
    places in the text, and image positions looked up wrongly; preset `paper` has none of these.
    """

    def __init__(self, config: ReleasedReportDecoderConfig, encoder: EncoderConfig, layout: TextLayout) -> None:
        super().__init__()
        width = config.width
        assert width == encoder.width, "check_effects refuses this"
        self.swapped_positions = config.swapped_positions
        self.view_table = config.view_table
        self.dropout = config.dropout
        self.pos_embedding = nn.Parameter(torch.zeros(1 + encoder.num_patches, 1, width))
        self.mask_embedding = nn.Parameter(torch.empty(1, 1, width))
        own = encoder.view_embedding and config.view_table == "own"
        self.view_embed = nn.Parameter(torch.empty(encoder.num_view_kinds, width)) if own else None
        self.text_pos_embed = nn.Parameter(torch.empty(layout.length, width)) if config.text_positions else None
        self.inp_vocabulary = nn.Embedding(layout.num_words, width)
        layer = nn.TransformerDecoderLayer(
            width, config.heads, int(width * config.mlp_ratio), config.dropout, "gelu", batch_first=True, bias=False
        )
        self.decoder = nn.TransformerDecoder(layer, config.depth, nn.LayerNorm(width))
        self.out_head = nn.Linear(width, layout.num_words, bias=False)
        initialize(self, encoder.init)
        for one in self.decoder.layers:  # torch copies one layer; each is to start from numbers of its own
            assert isinstance(one, nn.TransformerDecoderLayer)
            for attention in (one.self_attn, one.multihead_attn):
                assert attention.in_proj_weight is not None
                nn.init.xavier_uniform_(attention.in_proj_weight)
        nn.init.trunc_normal_(self.mask_embedding, std=0.02)
        if encoder.init == "xavier":
            nn.init.trunc_normal_(self.inp_vocabulary.weight, std=0.02)

    def place(
        self,
        tokens: Float[Tensor, "view token dim"],
        visible: Int64[Tensor, "view visible"],
        view_kind: Int64[Tensor, " view"],
        view_vectors: Float[Tensor, "view dim"] | None = None,
    ) -> Float[Tensor, "view token dim"]:
        if self.swapped_positions:
            visible = swap_positions(visible, len(self.pos_embedding) - 1)
        tokens = tokens + F.embedding(_add_class_row(visible), self.pos_embedding[:, 0])
        if self.view_embed is not None:
            view_vectors = F.embedding(view_kind, self.view_embed)
        return tokens if view_vectors is None else tokens + view_vectors[:, None]

    def forward(self, words: Int64[Tensor, "row token"], memory: Memory) -> Float[Tensor, "row token width"]:
        return self._decode(self.inp_vocabulary(words), memory, _forbid_later(words.shape[1], words.device)[0, 0])

    def predict_at_once(self, num_tokens: int, memory: Memory) -> Float[Tensor, "row token width"]:
        return self._decode(self.mask_embedding.expand(len(memory.tokens), num_tokens, -1), memory, None)

    @property
    def words(self) -> Float[Tensor, "word width"]:
        return self.out_head.weight

    def _decode(self, hidden: Tensor, memory: Memory, allowed: Tensor | None) -> Tensor:
        if self.text_pos_embed is not None:
            hidden = hidden + self.text_pos_embed[: hidden.shape[1]]
        absent = None if memory.present is None else ~memory.present
        forbidden = None if allowed is None else ~allowed  # torch's layers want to know what is not seen
        return self.decoder(hidden, memory.tokens, tgt_mask=forbidden, memory_key_padding_mask=absent)


def swap_positions(visible: Int64[Tensor, "view visible"], num_patches: int) -> Int64[Tensor, "view visible"]:
    """Where the released code looks up the position of each visible token: not at its patch visible[j] but at the
    place of patch j in the permutation that put the visible patches first (M 2.6, bug 1).

    For a uniform permutation each of these is right with probability 1 / patches only.
    """
    hidden = torch.ones(len(visible), num_patches, dtype=torch.bool, device=visible.device)
    hidden = hidden.scatter(1, visible, False)
    rest = hidden.nonzero()[:, 1].unflatten(0, (len(visible), -1))
    return torch.cat([visible, rest], dim=1).argsort(dim=1)[:, : visible.shape[1]]


def _add_class_row(visible: Int64[Tensor, "view visible"]) -> Int64[Tensor, "view 1+visible"]:
    return torch.cat([visible.new_zeros(len(visible), 1), 1 + visible], dim=1)


def _forbid_later(num_tokens: int, device: torch.device) -> Bool[Tensor, "1 1 token token"]:
    return torch.ones(1, 1, num_tokens, num_tokens, dtype=torch.bool, device=device).tril()


def build_report_decoder(
    config: ReportDecoderConfig | ReleasedReportDecoderConfig, encoder: EncoderConfig, layout: TextLayout
) -> ReportDecoder | ReleasedReportDecoder:
    """The decoder that a setting describes, for an encoder and texts of this shape."""
    if isinstance(config, ReleasedReportDecoderConfig):
        return ReleasedReportDecoder(config, encoder, layout)
    return ReportDecoder(config, encoder, layout)


def join_views(tokens: Float[Tensor, "view token dim"], batch: StudyBatch) -> Memory:
    """One row for each study: the tokens of all its views, filled up to the study with most views.

    Their order is that of the views, and means nothing: a token says itself what it is.
    """
    per_study = batch.views_per_study()
    num_views, (_, num_tokens, width) = int(per_study.max()), tokens.shape
    joined = tokens.new_zeros(batch.num_studies, num_views, num_tokens, width)
    joined = joined.index_put((batch.study, batch.view_index()), tokens)
    present = torch.arange(num_views, device=tokens.device) < per_study[:, None]
    return Memory(joined.flatten(1, 2), present.repeat_interleave(num_tokens, dim=1))
