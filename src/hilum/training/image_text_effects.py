"""Settings of image-text contrast that contradict each other or could change nothing (see effects.py)."""

from __future__ import annotations

from collections.abc import Iterator

from hilum.config import (
    Config,
    ConvEncoderConfig,
    ImageTextContrast,
    MaskConfig,
    TextContrast,
    TextEncoderConfig,
    ViewContrast,
    find_image_text,
)
from hilum.recipes.sizes import CONV_SIZES

KINDS = (ImageTextContrast, ViewContrast, TextContrast)
_PLACES = ("none", "all", "width_256", "channel_linear")  # tokenizers whose number of tokens is the map's


def find_in_image_text(config: Config) -> Iterator[str]:
    """Terms without the encoder they need, texts that nothing reads, and settings of both encoders."""
    ours = [name for name, term in config.terms.items() if isinstance(term, KINDS)]
    if isinstance(config.encoder, ConvEncoderConfig):
        yield from _find_in_encoder(config, config.encoder)
        others = [name for name in config.terms if name not in ours]
        if others:
            yield (
                f"terms.{others[0]} reads a vision transformer's tokens, and encoder.kind=convolution has none of "
                "these: leave it out, or take a recipe of the transformer's."
            )
    elif ours:
        yield f"terms.{ours[0]} needs encoder.kind=convolution: take the recipe custom_clip, mv_clip or mv_clip_tr."
    name = find_image_text(config)
    if (config.text_encoder is None) != (name is None):
        yield (
            f"terms.{name} compares images with texts that no text_encoder reads: take the recipe mv_clip_tr."
            if name is not None
            else "text_encoder has no effect without a term that compares images with texts: leave it out."
        )
    if config.text_encoder is not None:
        yield from _find_in_text_encoder(config.text_encoder, config)
    for name in ours:
        yield from _find_in_term(name, config)


def _find_in_encoder(config: Config, encoder: ConvEncoderConfig) -> Iterator[str]:
    if config.adapter is not None:
        yield "adapter updates the layers of a vision transformer: leave it out with encoder.kind=convolution."
    if config.mask != MaskConfig():
        yield "mask has no effect on a convolutional encoder, which sees views whole: leave it out."
    if encoder.tokenizer not in ("none", "width_256") and encoder.depth and encoder.width % encoder.heads:
        yield f"encoder.width={encoder.width} does not divide into encoder.heads={encoder.heads}."
    if not encoder.depth and encoder.dropout:
        yield "encoder.dropout has no effect while encoder.depth is 0: set it to 0."
    untouched = (ConvEncoderConfig().num_tokens, CONV_SIZES[config.size][3])  # a size's own, where it reads by A
    if encoder.tokenizer in _PLACES and encoder.num_tokens not in untouched:
        yield f"encoder.num_tokens has no effect with encoder.tokenizer={encoder.tokenizer}: leave it out."
    if encoder.tokenizer != "token_linear" and encoder.other_sizes != "refuse":
        yield "encoder.other_sizes has no effect but with encoder.tokenizer=token_linear: leave it out."


def _find_in_text_encoder(texts: TextEncoderConfig, config: Config) -> Iterator[str]:
    if texts.width % texts.heads:
        yield f"text_encoder.width={texts.width} does not divide into text_encoder.heads={texts.heads}."
    if texts.language_model.width % texts.language_model.heads:
        yield "text_encoder.language_model.width does not divide into its heads."
    if texts.length > texts.language_model.positions:
        yield (
            f"text_encoder.length={texts.length} is more than the {texts.language_model.positions} positions of the "
            "language model: lower it."
        )
    if not texts.depth and not texts.tuned and texts.dropout:
        yield "text_encoder.dropout has no effect on a frozen language model without blocks above it: set it to 0."
    if texts.tuned and texts.stored:
        yield "text_encoder.stored: states of a language model that is trained change: set --text-encoder.no-stored."
    if isinstance(config.encoder, ConvEncoderConfig) and texts.projection != config.encoder.projection:
        yield (
            f"text_encoder.projection={texts.projection} is compared with encoder.projection="
            f"{config.encoder.projection}: set the same."
        )


def _find_in_term(name: str, config: Config) -> Iterator[str]:
    term, images = config.terms[name], find_image_text(config)
    if isinstance(term, ImageTextContrast):
        if name != images:
            yield f"terms.{name}: terms.{images} compares images with texts already: leave one out."
        if term.target != "soft" and term.similarity_power != ImageTextContrast().similarity_power:
            yield f"terms.{name}.similarity_power has no effect with terms.{name}.target={term.target}: leave it out."
    if isinstance(term, ImageTextContrast | ViewContrast) and term.views[0] == term.views[1]:
        yield f"terms.{name}.views={term.views} names one kind twice: name two."
    if isinstance(term, ViewContrast | TextContrast) and term.temperature is None and images is None:
        yield f"terms.{name}.temperature: there is no contrast with text whose temperature it could share: set one."
    if isinstance(term, ViewContrast) and images is None and term.single_view_weight != 1:
        yield f"terms.{name}.single_view_weight has no effect without texts, which tell who has such a finding."
    if isinstance(term, TextContrast):
        of = None if images is None else config.terms[images]
        if not isinstance(of, ImageTextContrast) or of.num_texts != 2:
            yield f"terms.{name} compares two texts of a breast: set terms.{images or 'image_text'}.num_texts=2."
