"""An objective: encoders and named terms, and how their sums become the number that is minimised."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from hilum import config as settings
from hilum.batch import StudyBatch
from hilum.model.adapt import add_adapter
from hilum.model.conv_encoder import ConvEncoder
from hilum.model.decoders import SelfDecoder
from hilum.model.encoder import Encoder, Features
from hilum.model.heads import pool_tokens
from hilum.model.masking import Mask
from hilum.model.text_encoder import TextEncoder, build_language_model
from hilum.text.report_tokens import TextLayout, assume_layout

from .alignment import PooledAlignment, TokenAlignment
from .captioning import Captioning
from .contrast import ContrastAlignment
from .dropout import seed_dropout
from .gather import Gather, gather_rows
from .image_contrast import ImageContrast
from .image_text import ImageTextContrast, TextContrast, ViewContrast
from .preservation import FeaturePreservation
from .reconstruction import Reconstruction
from .spread import VarianceCovariance
from .teachers import TeacherContrast, TeacherRegression
from .term import Sum, Term


class Passes(NamedTuple):
    """What the terms read of a batch's views: what masks leave of them, and the views whole. None: no term reads it.

    An objective of both kinds of terms runs the encoder twice. At 90 % masked, a whole pass costs ten masked ones.
    """

    visible: Features | None
    whole: Features | None

    def get(self, *, whole: bool) -> Features:
        """One of the two, which a term or the caller knows to be there."""
        features = self.whole if whole else self.visible
        assert features is not None, "no term reads this pass"
        return features


class Objective(nn.Module):
    """Encoders and terms as one module, so that one forward pass of a distributed wrapper covers both.

    The terms return sums. Before the backward passes of a step, the loop adds up `count` over the step's micro-batches
    and processes; then each micro-batch on each process minimises (`weigh`)

        total = world_size * sum over terms of weight_t * sum_t / global_count_t

    Distributed wrappers average gradients over processes, which the factor world_size undoes. So the gradient of a
    step is that of the sum over terms of weight x mean over all items of the step, however the items were dealt to
    micro-batches and processes, also where some of them hold no pair. (Terms that compare views with each other across
    a batch, contrast and spread, see one micro-batch of all processes at a time.)
    """

    def __init__(
        self,
        encoder: Encoder | ConvEncoder,
        terms: Mapping[str, Term],
        gather: Gather = gather_rows,
        dropout_seed: int | None = None,
        text_encoder: TextEncoder | None = None,
    ) -> None:
        """
        Args:
            encoder: Of images.
            terms: By name.
            gather: Fetches other processes' rows.
            dropout_seed: Of encoders that drop numbers in training; None: they drop none.
            text_encoder: Of the batch's descriptions; None: no term reads them.
        """
        super().__init__()
        self.encoder, self.text_encoder = encoder, text_encoder
        self.terms = cast(dict[str, Term], nn.ModuleDict(terms))
        self.gather = gather
        self.dropout_seed = dropout_seed

    def encode(self, batch: StudyBatch, mask: Mask | None) -> Passes:
        """Features of the batch's views, with as much as the terms need."""
        kinds = {term.sees_whole for term in self.terms.values()}
        visible = self._encode(batch, mask, "visible") if False in kinds else None
        return Passes(visible, self._encode(batch, None, "whole") if True in kinds else None)

    def _encode(self, batch: StudyBatch, mask: Mask | None, purpose: str) -> Features:
        sees_whole = purpose == "whole"
        layers = any(term.reads_layers for term in self.terms.values() if term.sees_whole == sees_whole)
        with self._seed(f"dropout of {purpose} views", batch):
            if isinstance(self.encoder, ConvEncoder):
                features = self.encoder.encode(batch.pixels, batch.view_kind)
            else:
                features = self.encoder.encode(batch.pixels, batch.view_kind, mask, return_layers=layers)
        if self.text_encoder is None or not sees_whole:
            return features
        with self._seed("dropout of texts", batch):
            return features._replace(text_embedding=self.text_encoder(batch.descriptions))

    def _seed(self, purpose: str, batch: StudyBatch) -> AbstractContextManager[None]:
        if not self.training or self.dropout_seed is None:
            return nullcontext()
        return seed_dropout(purpose, self.dropout_seed, batch)

    def forward(self, batch: StudyBatch, mask: Mask) -> dict[str, dict[str, Sum]]:
        """The named sums of every term on this process's batch."""
        return self.measure(self.encode(batch, mask), mask, batch)

    def measure(self, passes: Passes, mask: Mask, batch: StudyBatch) -> dict[str, dict[str, Sum]]:
        """The same from features that are already there."""
        return {
            name: term(passes.get(whole=term.sees_whole), mask, batch, self.gather) for name, term in self.terms.items()
        }

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
    config: settings.Config,
    gather: Gather = gather_rows,
    layout: TextLayout | None = None,
    start: Callable[[Encoder | ConvEncoder], None] | None = None,
    language_model: nn.Module | None = None,
) -> Objective:
    """Encoders and terms that a config describes, with fresh weights from torch's default generator.

    Args:
        config: The settings.
        gather: Fetches other processes' rows.
        layout: Of the texts there are; None: of a vocabulary of the size in the settings.
        start: Gives the encoder the weights it starts from, before it is frozen or a term keeps a copy of it.
        language_model: What the text encoder reads by; None: stored states, or random weights where it is tuned.
    """
    if isinstance(config.encoder, settings.ConvEncoderConfig):
        return _build_image_text(config, config.encoder, gather, start, language_model)
    encoder = Encoder(config.encoder)
    terms: dict[str, Term] = {}
    # Last come guards, which may watch the vectors of another term, and reports, which may read its view table.
    later = settings.VarianceCovariance | settings.Captioning
    for name, term in sorted(config.terms.items(), key=lambda item: isinstance(item[1], later)):
        terms[name] = _build_term(term, config, terms, layout or assume_layout(config.text))
    if start is not None:
        start(encoder)
    for term in terms.values():
        if isinstance(term, FeaturePreservation):
            term.keep_start(encoder)
    if config.adapter is not None:
        add_adapter(encoder, config.adapter)
    drops = config.adapter is not None and config.adapter.dropout > 0
    return Objective(encoder, {name: terms[name] for name in config.terms}, gather, config.seed if drops else None)


def _build_image_text(
    config: settings.Config,
    encoder_config: settings.ConvEncoderConfig,
    gather: Gather,
    start: Callable[[Encoder | ConvEncoder], None] | None,
    language_model: nn.Module | None,
) -> Objective:
    """Of a convolutional encoder, with or without texts."""
    encoder, text_encoder, texts = ConvEncoder(encoder_config), None, config.text_encoder
    if texts is not None:
        if language_model is None and texts.tuned:
            language_model = build_language_model(texts.language_model)
        text_encoder = TextEncoder(texts, language_model)
    images = next((term for term in config.terms.values() if isinstance(term, settings.ImageTextContrast)), None)
    image_text = None if images is None else ImageTextContrast(images)
    shared = None if image_text is None else image_text.scale
    terms: dict[str, Term] = {}
    for name, term in config.terms.items():
        if isinstance(term, settings.ViewContrast):
            terms[name] = ViewContrast(term, encoder_config.projection, shared)
        elif isinstance(term, settings.TextContrast):
            assert images is not None, "check_effects refuses this"
            assert shared is not None
            terms[name] = TextContrast(term, images, shared)
        else:
            assert image_text is not None, "check_effects refuses other terms"
            terms[name] = image_text
    if start is not None:
        start(encoder)
    return Objective(encoder, terms, gather, config.seed, text_encoder)


def _build_term(term: settings.Term, config: settings.Config, built: Mapping[str, Term], layout: TextLayout) -> Term:
    match term:
        case settings.Reconstruction():
            return Reconstruction(term, config.transformer, config.mask.ratio, config.seed)
        case settings.TokenAlignment():
            return TokenAlignment()
        case settings.PooledAlignment():
            return PooledAlignment(term, config.transformer)
        case settings.ContrastAlignment():
            return ContrastAlignment(term, config.transformer)
        case settings.Captioning():
            return Captioning(term, config.transformer, layout, config.seed, _find_view_table(term, config, built))
        case settings.TeacherContrast():
            return TeacherContrast(term, config.transformer, settings.list_teachers(config, term), config.seed)
        case settings.TeacherRegression():
            return TeacherRegression(term, config.transformer, settings.list_teachers(config, term), config.seed)
        case settings.ImageContrast():
            return ImageContrast(term, config.transformer, config.seed)
        case settings.FeaturePreservation():
            return FeaturePreservation(config.transformer)
        case settings.VarianceCovariance():
            if term.of is None:
                return VarianceCovariance(term, lambda features: pool_tokens(features, term.feature))
            watched = built[term.of]
            assert isinstance(watched, PooledAlignment), "check_effects refuses this"
            return VarianceCovariance(term, watched.read_compared)
        case settings.ImageTextContrast() | settings.ViewContrast() | settings.TextContrast():
            raise AssertionError("a transformer makes no vector to contrast: check_effects refuses this")


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
