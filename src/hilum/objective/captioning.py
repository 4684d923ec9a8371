"""The words of a report, predicted from the visible tokens of its study.

| paper symbol (MVMAE-V2T; M 2.6, M 7.3 E) | name here |
|---|---|
| r_k, K: word k of a report, number of its words | `Texts.tokens`, the counted targets |
| z_v: visible tokens of view v | `Memory` |
| -log p(r_k given r_<k, z_v) | `measure_token_losses` |
| L_CE: mean over the K words, then over views | `pool_by_owner`, then `average` |
| gamma | the term's weight |

A word is predicted from the words before it, or, for the share `parallel` of the reports, from the image alone: all
words hidden, none of them before another (CapPa, Tschannen et al. 2023, section 3.1).
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from hilum.batch import StudyBatch, Texts, pool_by_owner
from hilum.config import Captioning as CaptioningConfig
from hilum.config import EncoderConfig
from hilum.keyed_random import draw_uniform, make_keys
from hilum.model.encoder import Features
from hilum.model.masking import Mask
from hilum.model.report_decoder import Memory, build_report_decoder, join_views
from hilum.text.report_tokens import PLACEHOLDER, TextLayout

from .dropout import seed_dropout
from .gather import Gather
from .released_captioning import overwrite_targets, share_slot_losses, sum_over_slots
from .term import Sum, Term, sum_items

MAX_SCORES = 2**22  # scores of words held at a time: 16 MiB in 32 bit
ReadViewVectors = Callable[[Features, Tensor], Tensor | None]


def measure_token_losses(
    hidden: Float[Tensor, "token width"],
    words: Float[Tensor, "word width"],
    target: Int64[Tensor, " token"],
    max_scores: int = MAX_SCORES,
) -> Float[Tensor, " token"]:
    """-log softmax(hidden words^T)[target] of each token, in natural units.

    Where tokens x words are more than `max_scores`, they are computed a part at a time, and once more in the backward
    pass: no tensor ever holds the scores of all tokens.
    """
    rows = max(1, max_scores // len(words))
    if len(hidden) <= rows:
        return _score(hidden, words, target)
    parts = zip(hidden.split(rows), target.split(rows), strict=True)
    return torch.cat([
        checkpoint(_score, part, words, wanted, use_reentrant=False, preserve_rng_state=False)
        for part, wanted in parts
    ])  # fmt: skip


def _score(hidden: Tensor, words: Tensor, target: Tensor) -> Tensor:
    return F.cross_entropy((hidden @ words.T).float(), target, reduction="none")


class Targets(NamedTuple):
    """What each place of a text is to predict: the next token, where that is one."""

    tokens: Int64[Tensor, "text place"]
    counted: Bool[Tensor, "text place"]


def list_targets(texts: Texts) -> Targets:
    """Every token but the first, padding not counted; a text of nothing but its start has no target."""
    place = torch.arange(1, texts.tokens.shape[1], device=texts.tokens.device)
    return Targets(texts.tokens[:, 1:], place < texts.length[:, None])


def average_tokens(
    losses: Float[Tensor, " token"], row: Int64[Tensor, " token"], num_rows: int
) -> Float[Tensor, " row"]:
    """Mean over the targets of each row (a text, or a text as seen from one view); 0 for a row without any."""
    return pool_by_owner(losses[:, None], row, num_rows)[:, 0]


class Captioning(Term):
    """Cross-entropy of reports; studies without one change nothing."""

    def __init__(
        self,
        config: CaptioningConfig,
        encoder: EncoderConfig,
        layout: TextLayout,
        seed: int,
        read_view_vectors: ReadViewVectors = lambda features, view_kind: None,
    ) -> None:
        super().__init__()
        self.decoder = build_report_decoder(config.decoder, encoder, layout)
        self.layout = layout
        self.memory: Literal["study", "view"] = config.memory
        self.parallel = config.parallel
        self.average: Literal["text", "view", "slot"] = config.average
        self.seed = seed
        self.read_view_vectors = read_view_vectors

    def count(self, batch: StudyBatch) -> float:
        if self.average == "slot":
            return float(batch.num_studies)
        owner = batch.texts.owner
        return float(len(owner) if self.average == "text" else batch.views_per_study()[owner].sum())

    def read_tokens(
        self, features: Features, visible: Int64[Tensor, "view visible"], view_kind: Int64[Tensor, " view"]
    ) -> Float[Tensor, "view token dim"]:
        """The views' tokens as the decoder sees them: with positions and kinds."""
        return self.decoder.place(features.tokens, visible, view_kind, self.read_view_vectors(features, view_kind))

    def forward(self, features: Features, mask: Mask, batch: StudyBatch, gather: Gather) -> dict[str, Sum]:
        texts = batch.texts
        text, view = self._list_rows(batch)
        # Whatever this batch holds, every parameter takes part, so that processes stay in step.
        nothing = 0.0 * (features.tokens.sum() + sum(parameter.sum() for parameter in self.decoder.parameters()))
        hides = self._draw_parallel(batch)[text]
        losses = nothing.new_zeros(0)
        if len(text):
            tokens = self.read_tokens(features, mask.visible, batch.view_kind)
            memory = join_views(tokens, batch).take(texts.owner) if view is None else Memory(tokens[view], None)
            targets = self._choose_targets(batch, text, view)
            with self._repeat_dropout(batch):
                hidden = self._decode(texts.tokens[text], memory, hides, targets.tokens.shape[1])
            row, place = targets.counted.nonzero().T
            found = measure_token_losses(hidden[row, place], self.decoder.words, targets.tokens[row, place])
            losses = average_tokens(found, row, len(text))
        if self.average == "slot":
            assert view is not None, "check_effects refuses this"
            slot, available = batch.view_index()[view], texts.section[text] != PLACEHOLDER
            rows_of_slot, available_of_slot = sum_over_slots(slot, available, gather)
            shares = share_slot_losses(losses, slot, rows_of_slot, available_of_slot)
            loss = sum_items(shares, batch.num_studies)
        elif self.average == "text":
            loss = sum_items(average_tokens(losses, text, len(texts.owner)))
        else:
            loss = sum_items(losses)
        found = {"loss": Sum(loss.value + nothing, loss.count), "word_by_word": sum_items(losses[~hides].detach())}
        return found | ({"at_once": sum_items(losses[hides].detach())} if self.parallel else {})

    def _list_rows(self, batch: StudyBatch) -> tuple[Int64[Tensor, " row"], Int64[Tensor, " row"] | None]:
        """Text and view of each row of words that is decoded; no view where a row reads all of them."""
        owner = batch.texts.owner
        if self.memory == "study":
            return torch.arange(len(owner), device=owner.device), None
        text, view = (owner[:, None] == batch.study[None, :]).nonzero().T
        return text, view

    def _choose_targets(self, batch: StudyBatch, text: Tensor, view: Tensor | None) -> Targets:
        targets = list_targets(batch.texts)
        if self.average == "slot":
            assert view is not None, "check_effects refuses this"
            counted = targets.counted & (targets.tokens != self.layout.end)
            return Targets(
                *overwrite_targets(
                    targets.tokens[text], counted[text], batch.view_index()[view], self.layout.length, self.layout.pad
                )
            )
        return Targets(targets.tokens[text], targets.counted[text])

    def _decode(
        self, tokens: Int64[Tensor, "row token"], memory: Memory, hides: Bool[Tensor, " row"], num_places: int
    ) -> Float[Tensor, "row place width"]:
        """Hidden vectors at every place of every row, of both ways to predict."""
        tokens = F.pad(tokens, (0, num_places + 1 - tokens.shape[1]), value=self.layout.pad)[:, :num_places]
        if not bool(hides.any()):
            return self.decoder(tokens, memory)
        shown = self.decoder(tokens[~hides], memory.take(~hides)) if not bool(hides.all()) else None
        # As many places for all texts of a run, so that none tells how long its own text is.
        hidden = self.decoder.predict_at_once(self.layout.longest, memory.take(hides))[:, :num_places]
        if shown is None:
            return hidden
        both = hidden.new_zeros(len(tokens), num_places, hidden.shape[2])
        return both.index_put((~hides,), shown.to(hidden.dtype)).index_put((hides,), hidden)

    def _draw_parallel(self, batch: StudyBatch) -> Bool[Tensor, " text"]:
        """Which texts are predicted at once: drawn by study in training, none in evaluation."""
        owner = batch.texts.owner
        if not self.training or not self.parallel:
            return torch.zeros_like(owner, dtype=torch.bool)
        keys = make_keys("all words hidden", self.seed, batch.key.cpu().numpy(), batch.draw.cpu().numpy())
        return torch.from_numpy(draw_uniform(keys, 1)[:, 0] < self.parallel).to(owner.device)[owner]

    def _repeat_dropout(self, batch: StudyBatch) -> AbstractContextManager[None]:
        drops = self.training and getattr(self.decoder, "dropout", 0.0)
        return seed_dropout("dropout", self.seed, batch) if drops else nullcontext()
