"""Settings of a config that contradict each other or could change nothing: each is refused with what to do about it.

A function for each group of settings, and for each kind of term, yields what is wrong with them.
"""

from __future__ import annotations

from collections.abc import Iterator

from hilum.config import (
    AugmentConfig,
    Captioning,
    Config,
    CropConfig,
    CrossDecoder,
    EncoderConfig,
    MaskConfig,
    PooledAlignment,
    Reconstruction,
    ReleasedReportDecoder,
    RunConfig,
    SelfDecoder,
    Term,
    TextConfig,
    TokenAlignment,
    VarianceCovariance,
    find_captioning,
    find_image_text,
    find_look_terms,
    find_pair_terms,
    find_reference,
    find_whole_terms,
)
from hilum.errors import UserError

from .image_text_effects import find_in_image_text
from .teacher_effects import find_in_teachers


def check_effects(config: Config) -> None:
    """Refuse settings that contradict each other or could change nothing.

    Raises:
        UserError: names the setting, why it has no effect, and what to set instead; the first that is found.
    """
    for fault in find_faults(config):
        raise UserError(fault)


def find_faults(config: Config) -> Iterator[str]:
    """Everything that is wrong with the settings, group by group and then term by term."""
    of_transformer = (_find_in_encoder, _find_in_mask) if isinstance(config.encoder, EncoderConfig) else ()
    for find in (
        *of_transformer,
        _find_in_data,
        _find_in_flips,
        _find_in_breasts,
        _find_in_optim,
        _find_in_run,
        _find_in_text,
        find_in_image_text,
    ):
        yield from find(config)
    if not config.terms:
        yield "The objective has no terms: nothing would be learned."
    elif len(find_whole_terms(config)) == len(config.terms) and config.mask != MaskConfig():
        yield "mask has no effect: no term of this objective reads masked views. Leave it out."
    yield from find_in_teachers(config)
    for name, term in config.terms.items():
        yield from _find_in_weight(name, term, config)
        if isinstance(term, Reconstruction) and of_transformer:
            yield from _find_in_reconstruction(name, term, config)
        if isinstance(term, Captioning) and of_transformer:
            yield from _find_in_captioning(name, term, config)
        yield from _find_in_pairs(name, term, config)
        if isinstance(term, VarianceCovariance):
            yield from _find_in_guard(name, term, config)
        yield from _find_in_slots(name, term, config)


def _find_in_encoder(config: Config) -> Iterator[str]:
    encoder = config.transformer
    if encoder.image_size % encoder.patch_size:
        yield f"encoder.image_size={encoder.image_size} is not a multiple of encoder.patch_size={encoder.patch_size}."
    yield from _find_in_width("encoder", encoder.width, encoder.heads, encoder.init)
    if encoder.positions == "fixed" and encoder.init != "xavier":
        yield (
            "encoder.positions=fixed would keep the noise that encoder.init=released starts positions from: set "
            "encoder.init=xavier, or encoder.positions=learned."
        )
    if not encoder.view_embedding and encoder.num_view_kinds != EncoderConfig().num_view_kinds:
        yield "encoder.num_view_kinds has no effect without encoder.view_embedding: leave it out."


def _find_in_width(name: str, width: int, heads: int, init: str) -> Iterator[str]:
    """A token must divide into heads, and into the four waves of the position codes that `xavier` starts from."""
    if width % heads:
        yield (
            f"{name}.width={width} does not divide into {name}.heads={heads}: choose a width that is a multiple of it, "
            "or other heads."
        )
    if init == "xavier" and width % 4:
        yield (
            f"{name}.width={width} is not a multiple of 4, which the position codes of encoder.init=xavier need: "
            f"choose {width + 4 - width % 4}, or encoder.init=released."
        )


def _count_visible(config: Config) -> int:
    kept = config.transformer.num_patches * (1 - config.mask.ratio)
    return int(kept + 1e-6)  # as in model.masking, which needs torch


def _find_in_mask(config: Config) -> Iterator[str]:
    if _count_visible(config) < 1:
        yield (
            f"mask.ratio={config.mask.ratio} leaves none of the {config.transformer.num_patches} patches visible: "
            "lower it."
        )


def _find_in_data(config: Config) -> Iterator[str]:
    """What a step sees of an image."""
    yield from _find_in_looks(config)
    crop, augment, unset = config.data.crop, config.data.augment, AugmentConfig()
    for low, high in (
        ("crop.min_scale", "crop.max_scale"),
        ("crop.min_aspect", "crop.max_aspect"),
        ("augment.min_blur", "augment.max_blur"),
        ("augment.min_erased", "augment.max_erased"),
    ):
        part = crop if low.startswith("crop") else augment
        if getattr(part, low.split(".")[1]) > getattr(part, high.split(".")[1]):
            yield f"data.{low} is larger than data.{high}."
    if crop.mode != "random" and crop != CropConfig(mode=crop.mode):
        yield (
            f"data.crop.min_scale and max_scale, min_aspect and max_aspect have no effect with data.crop.mode="
            f"{crop.mode}: set data.crop.mode=random, or leave them out."
        )
    if augment.flip_whole_study and not (augment.flip_probability or augment.vertical_flip_probability):
        yield (
            "data.augment.flip_whole_study has no effect while data.augment.flip_probability and "
            "vertical_flip_probability are 0: set one of them, or leave it out."
        )
    for probability, settings in (
        ("jitter_probability", ("brightness", "contrast")),
        ("affine_probability", ("rotation", "shift", "zoom", "shear")),
        ("elastic_probability", ("elastic_alpha", "elastic_sigma")),
        ("blur_probability", ("min_blur", "max_blur")),
        ("erase_probability", ("min_erased", "max_erased")),
    ):
        changed = any(getattr(augment, name) != getattr(unset, name) for name in settings)
        if changed and not getattr(augment, probability):
            *others, last = settings
            yield (
                f"data.augment.{', '.join(others)} and {last} have no effect while data.augment.{probability} is 0: "
                "set that, or leave them out."
            )


def _find_in_flips(config: Config) -> Iterator[str]:
    """Texts may name a place or a side, which no flip changes in them (L 1.8).

    From left to right a flip is harmless to breasts, which a cache lays to one side, and whose side the text tells; and
    chests are flipped beside their reports in the published presets.
    """
    augment, compared = config.data.augment, find_image_text(config)
    reads = compared or find_captioning(config)
    if augment.vertical_flip_probability and reads is not None:
        yield (
            f"data.augment.vertical_flip_probability turns views upside down, and terms.{reads} learns from texts that "
            "may name a place, such as the upper outer quadrant: leave it out, or learn without texts."
        )
    if augment.flip_probability and compared is not None and not config.data.breasts:
        yield (
            f"data.augment.flip_probability exchanges left and right, and terms.{compared} learns from texts of "
            "studies that name sides: leave it out, or set data.breasts=true for mammograms, which lie to one side."
        )


def _find_in_breasts(config: Config) -> Iterator[str]:
    """Of what is shown of breasts."""
    if config.data.breasts and config.data.max_views is not None:
        yield (
            "data.max_views has no effect beside data.breasts, which shows one image of each view: leave it out, or "
            "set data.breasts=false."
        )
    if config.data.finding_share and not config.data.breasts:
        yield "data.finding_share is of breasts, and has no effect without data.breasts: set that, or leave it out."
    if config.data.one_per_patient and config.data.multi_view_floor:
        yield (
            "data.multi_view_floor has no effect beside data.one_per_patient, which draws everything once an epoch: "
            "set it to 0, or data.one_per_patient=false."
        )


def _find_in_looks(config: Config) -> Iterator[str]:
    """Two looks at every image are for terms that compare them, which learn nothing from one."""
    terms = find_look_terms(config)
    if config.data.looks > 1 and not terms:
        yield "data.looks has no effect without a term that compares two looks at an image: leave it out."
    for name in terms if config.data.looks == 1 else ():
        yield f"terms.{name} compares two looks at an image, and data.looks=1 shows one: set data.looks=2."


def _find_in_optim(config: Config) -> Iterator[str]:
    optim = config.optim
    if not all(0 <= beta < 1 for beta in optim.betas):
        yield f"optim.betas={optim.betas} are shares of a running mean: set both to at least 0 and below 1."
    for name in ("decay_everything", "decay_tokens"):
        if getattr(optim, name) and not optim.weight_decay:
            yield f"optim.{name} has no effect while optim.weight_decay is 0: set that, or leave it out."
    if optim.decay_everything and optim.decay_tokens:
        yield "optim.decay_tokens has no effect beside optim.decay_everything, which decays them too: leave it out."
    if not optim.warmup and optim.warmup_start:
        yield "optim.warmup_start has no effect while optim.warmup is 0: set that, or leave it out."
    if optim.per_epoch and optim.steps is not None:
        yield (
            "optim.per_epoch (of preset `code`, whose rate changes once an epoch) needs a length in --optim.epochs. "
            "To count in --optim.steps, add --optim.no-per-epoch."
        )


def _find_in_run(config: Config) -> Iterator[str]:
    run = config.run
    if run.checkpoint_every is not None and run.checkpoint_minutes != RunConfig().checkpoint_minutes:
        yield "run.checkpoint_minutes has no effect beside run.checkpoint_every: leave one of them out."


def _find_in_text(config: Config) -> Iterator[str]:
    reads = find_captioning(config) or find_image_text(config)
    if reads is None and (config.text != TextConfig() or config.data.shuffle_reports):
        name = "data.shuffle_reports" if config.data.shuffle_reports else "text"
        yield (
            f"{name} has no effect without a term that learns from reports: leave it out, or take the recipe "
            "`mvmae_v2t`."
        )


def _find_in_weight(name: str, term: Term, config: Config) -> Iterator[str]:
    weight, reference = term.weight, find_reference(config.terms)
    if weight.gradient_ratio is None:
        return
    if reference is None:
        yield f"terms.{name}.weight.gradient_ratio needs a reconstruction term to compare with."
    elif not config.terms[reference].weight.value:
        yield (
            f"terms.{name}.weight.gradient_ratio is a share of the pull of terms.{reference}, whose weight.value "
            f"is 0: raise that, or set terms.{name}.weight.value and no ratio."
        )
    if isinstance(term, Reconstruction):
        yield f"terms.{name}.weight.gradient_ratio: reconstruction is what the ratio is taken to."
    if weight.value == 0:
        yield f"terms.{name}.weight.gradient_ratio has no effect while its value is 0."


def _find_in_reconstruction(name: str, term: Reconstruction, config: Config) -> Iterator[str]:
    encoder, decoder = config.transformer, term.decoder
    yield from _find_in_width(f"terms.{name}.decoder", decoder.width, decoder.heads, encoder.init)
    if _count_visible(config) == encoder.num_patches:
        yield (
            f"terms.{name} predicts masked patches, and mask.ratio={config.mask.ratio} masks none of "
            f"{encoder.num_patches}: raise it (0.9 is usual), or leave the term out."
        )
    if isinstance(decoder, CrossDecoder) and decoder.other_views and config.data.max_views == 1:
        yield (
            f"terms.{name}.decoder.other_views reads the other views of a study, and data.max_views=1 never shows two: "
            "raise it to 2 or more, or leave it out."
        )
    if not isinstance(decoder, SelfDecoder) or not decoder.shared_view_table:
        return
    if not encoder.view_embedding:
        yield (
            f"terms.{name}.decoder.shared_view_table has no effect without encoder.view_embedding: set that, or "
            "leave it out."
        )
    if decoder.width != encoder.width:
        yield (
            f"terms.{name}.decoder.shared_view_table adds the encoder's vectors, of {encoder.width} numbers, to "
            f"tokens of {decoder.width}: set terms.{name}.decoder.width={encoder.width}, or leave it out."
        )


def _find_in_captioning(name: str, term: Captioning, config: Config) -> Iterator[str]:
    decoder = term.decoder
    if name != find_captioning(config):
        yield f"terms.{name}: terms.{find_captioning(config)} learns from reports already: leave one out."
    if not config.text.sections and not config.text.fallback:
        yield "text.sections names nothing to read: name a section, such as impression."
    # No waves of positions in it.
    yield from _find_in_width(f"terms.{name}.decoder", decoder.width, decoder.heads, "released")
    if config.text.placeholder is not None and term.average != "slot":
        yield (
            f"text.placeholder is the released code's; a report that nobody wrote teaches nothing with terms.{name}."
            f"average={term.average}: leave it out."
        )
    if term.average == "slot" and (term.memory, term.parallel) != ("view", 0.0):
        yield (
            f"terms.{name}.average=slot is the released code's form, word by word and view by view: set "
            f"terms.{name}.memory=view and terms.{name}.parallel=0."
        )
    if term.average == "view" and term.memory == "study":
        yield (
            f"terms.{name}.average=view has no effect with terms.{name}.memory=study, which reads the views of a "
            f"report at once: set terms.{name}.average=text, or terms.{name}.memory=view."
        )
    if isinstance(decoder, ReleasedReportDecoder):
        yield from _find_in_released_decoder(name, decoder, config)


def _find_in_released_decoder(name: str, decoder: ReleasedReportDecoder, config: Config) -> Iterator[str]:
    encoder = config.transformer
    if decoder.width != encoder.width:
        yield (
            f"terms.{name}.decoder.width={decoder.width}: the released decoder has no layer between encoder and "
            f"words: set {encoder.width}, the encoder's."
        )
    reference = find_reference(config.terms)
    owner = config.terms[reference] if reference else None
    image = owner.decoder if isinstance(owner, Reconstruction) else None
    has_table = isinstance(image, SelfDecoder) and not image.shared_view_table and image.width == decoder.width
    if decoder.view_table != "own" and not (encoder.view_embedding and (decoder.view_table == "encoder" or has_table)):
        yield (
            f"terms.{name}.decoder.view_table={decoder.view_table}: that has no table of vectors of length "
            f"{decoder.width} to share. Set terms.{name}.decoder.view_table=own."
        )


def _find_in_pairs(name: str, term: Term, config: Config) -> Iterator[str]:
    """Of terms that compare the views of one study."""
    if name in find_pair_terms(config) and config.data.max_views == 1:
        yield (
            f"terms.{name} compares the views of one study, and data.max_views=1 never shows two: raise it to 2 or "
            "more, or take the recipe `independent`."
        )
    if isinstance(term, TokenAlignment) and config.mask.sharing != "positions":
        yield (
            f"terms.{name} compares tokens at the same position, so the views of a study must share visible "
            f"patches: set mask.sharing=positions (found {config.mask.sharing})."
        )


def _find_in_guard(name: str, term: VarianceCovariance, config: Config) -> Iterator[str]:
    """Of a guard of another term's vectors."""
    if term.of is None:
        return
    if not isinstance(config.terms.get(term.of), PooledAlignment):
        yield f"terms.{name}.of={term.of} is not a pooled alignment term of this objective."
    if term.feature != VarianceCovariance().feature:
        yield f"terms.{name}.feature has no effect: the vectors of terms.{term.of} are guarded."
    if term.weight.gradient_ratio is not None:
        yield f"terms.{name}.weight.gradient_ratio: its weight is relative to that of terms.{term.of}."


def _find_in_slots(name: str, term: Term, config: Config) -> Iterator[str]:
    """Of terms in the released code's form, which averages over slots for views."""
    if not isinstance(term, Reconstruction | PooledAlignment | Captioning) or term.average != "slot":
        return
    if config.data.max_views is None or config.data.max_views > 3:
        yield (
            f"terms.{name}.average=slot divides by the released code's three slots a study: set data.max_views=3 "
            f"(found {config.data.max_views})."
        )
    if config.data.looks > 1:
        yield f"terms.{name}.average=slot divides by the released code's three slots a study: set data.looks=1."
    if isinstance(term, PooledAlignment) and term.projector:
        yield f"terms.{name}.average=slot is the released code's form, which has no projector: set ()."
    if isinstance(term, PooledAlignment) and term.metric != "mse":
        yield (
            f"terms.{name}.metric={term.metric} has no effect with average=slot, which is the mean squared "
            f"difference of unit vectors: set terms.{name}.metric=mse, or average=pair."
        )
