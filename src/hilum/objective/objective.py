"""An objective: one encoder and named terms, and how their sums become the number that is minimised."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import cast

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from hilum import config as settings
from hilum.batch import StudyBatch
from hilum.model.decoders import SelfDecoder
from hilum.model.encoder import Encoder, Features
from hilum.model.heads import pool_tokens
from hilum.model.masking import Mask
from hilum.text.report_tokens import TextLayout, assume_layout

from .alignment import PooledAlignment, TokenAlignment
from .captioning import Captioning
from .contrast import ContrastAlignment
from .gather import Gather, gather_rows
from .reconstruction import Reconstruction
from .spread import VarianceCovariance
from .term import Sum, Term


class Objective(nn.Module):
    """Encoder and terms as one module, so that one forward pass of a distributed wrapper covers both.

    The terms return sums. Before the backward passes of a step, the loop adds up `count` over the step's micro-batches
    and processes; then each micro-batch on each process minimises (`weigh`)

        total = world_size * sum over terms of weight_t * sum_t / global_count_t

    Distributed wrappers average gradients over processes, which the factor world_size undoes. So the gradient of a
    step is that of the sum over terms of weight x mean over all items of the step, however the items were dealt to
    micro-batches and processes, also where some of them hold no pair. (Terms that compare views with each other across
    a batch, contrast and spread, see one micro-batch of all processes at a time.)
    """

    def __init__(self, encoder: Encoder, terms: Mapping[str, Term], gather: Gather = gather_rows) -> None:
        super().__init__()
        self.encoder = encoder
        self.terms = cast(dict[str, Term], nn.ModuleDict(terms))
        self.gather = gather

    def encode(self, batch: StudyBatch, mask: Mask | None) -> Features:
        """Features of the batch's views, with as much as the terms need."""
        reads_layers = any(term.reads_layers for term in self.terms.values())
        return self.encoder.encode(batch.pixels, batch.view_kind, mask, return_layers=reads_layers)

    def forward(self, batch: StudyBatch, mask: Mask) -> dict[str, dict[str, Sum]]:
        """The named sums of every term on this process's batch."""
        return self.measure(self.encode(batch, mask), mask, batch)

    def measure(self, features: Features, mask: Mask, batch: StudyBatch) -> dict[str, dict[str, Sum]]:
        """The same from features that are already there."""
        return {name: term(features, mask, batch, self.gather) for name, term in self.terms.items()}

    def count(self, batch: StudyBatch) -> dict[str, float]:
        """How many items each term's mean is over in this batch; needs no forward pass."""
        return {name: term.count(batch) for name, term in self.terms.items()}


def divide_losses(
    sums: Mapping[str, Mapping[str, Sum]], global_counts: Mapping[str, float], world_size: int
) -> dict[str, Float[Tensor, ""]]:
    """Each term's part of the mean over the whole step, scaled for averaging of gradients over processes.

    A term without any item in the whole step is 0.
    """
    return {name: parts["loss"].value * (world_size / max(global_counts[name], 1.0)) for name, parts in sums.items()}


def weigh(losses: Mapping[str, Float[Tensor, ""]], weights: Mapping[str, float]) -> Float[Tensor, ""]:
    """The weighted sum that is minimised; a weight of 0 still reaches all parameters."""
    return torch.stack([weights[name] * loss for name, loss in losses.items()]).sum()


def build_objective(
    config: settings.Config, gather: Gather = gather_rows, layout: TextLayout | None = None
) -> Objective:
    """Encoder and terms that a config describes, with fresh weights from torch's default generator.

    `layout`: of the texts there are; None: of a vocabulary of the size in the settings.
    """
    encoder = Encoder(config.encoder)
    terms: dict[str, Term] = {}
    # Last come guards, which may watch the vectors of another term, and reports, which may read its view table.
    later = settings.VarianceCovariance | settings.Captioning
    for name, term in sorted(config.terms.items(), key=lambda item: isinstance(item[1], later)):
        terms[name] = _build_term(term, config, terms, layout or assume_layout(config.text))
    return Objective(encoder, {name: terms[name] for name in config.terms}, gather)


def _build_term(term: settings.Term, config: settings.Config, built: Mapping[str, Term], layout: TextLayout) -> Term:
    match term:
        case settings.Reconstruction():
            return Reconstruction(term, config.encoder, config.mask.ratio, config.seed)
        case settings.TokenAlignment():
            return TokenAlignment()
        case settings.PooledAlignment():
            return PooledAlignment(term, config.encoder)
        case settings.ContrastAlignment():
            return ContrastAlignment(term, config.encoder)
        case settings.Captioning():
            return Captioning(term, config.encoder, layout, config.seed, _find_view_table(term, config, built))
        case settings.VarianceCovariance():
            if term.of is None:
                return VarianceCovariance(term, lambda features: pool_tokens(features, term.feature))
            watched = built[term.of]
            assert isinstance(watched, PooledAlignment), "check_effects refuses this"
            return VarianceCovariance(term, watched.read_compared)


def _find_view_table(
    term: settings.Captioning, config: settings.Config, built: Mapping[str, Term]
) -> Callable[[Features, Tensor], Tensor | None]:
    """How the report decoder gets the vectors of view kinds of a module that it does not own."""
    table = term.decoder.view_table if isinstance(term.decoder, settings.ReleasedReportDecoder) else "own"
    if table == "own":
        return lambda features, view_kind: None
    if table == "encoder":
        return lambda features, view_kind: features.view_vectors
    reference = settings.find_reference(config.terms)
    owner = built[reference] if reference else None
    assert isinstance(owner, Reconstruction), "check_effects refuses this"
    decoder = owner.decoder
    assert isinstance(decoder, SelfDecoder), "check_effects refuses this"
    return lambda features, view_kind: F.embedding(view_kind, cast(Tensor, decoder.view_embed))
