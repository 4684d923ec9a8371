"""What is compared on the breast phantom: the recipes of MV-MLM, and `hilum`'s with one thing changed at a time.

All arms share the network, the size, the optimiser and the number of steps, so that they differ in objective, texts and
what is shown: `paper` and `hilum` are these presets' terms, targets, batches and augmentation. The network is one that
learns in minutes on one thread; its small language model is trained with it, as the sizes that start from nothing have,
but where one that has read the texts before is given.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from evidence.mammogram_caches import ABROAD, IMAGE_SHAPE
from evidence.mammogram_texts import Texts
from hilum.config import Config, ConvEncoderConfig, ImageTextContrast, ViewContrast
from hilum.recipes import Preset, build_recipe

BACKBONE = "test_resnet"
STEPS, VIEWS = 300, 64
RANDOM, SUPERVISED = "random weights", "supervised"  # arms that are not pretrained
HILUM = "mv_clip_tr"  # what others change one thing of
FINAL = ("custom_clip, paper", "mv_clip, paper", "mv_clip_tr, paper", HILUM)
FINAL_SEEDS, SEEDS = 5, 3
# Arms that are also probed at the institution that one of them did not see.
TRANSFERRED = (RANDOM, HILUM, "one institution")


@dataclass(frozen=True)
class Arm:
    """A pretraining to compare, and the question it belongs to."""

    name: str
    question: str
    config: Config
    texts: Texts = "varied"
    against: tuple[str, ...] = (HILUM,)  # arms it is compared with
    reads_given: bool = False  # a language model that knows the words, see mammogram_language_model.py

    @property
    def seeds(self) -> int:
        """How many networks are trained."""
        return FINAL_SEEDS if self.name in FINAL else SEEDS


def configure(recipe: str = "mv_clip_tr", preset: Preset = "hilum") -> Config:
    """A recipe's objective in the size and with the optimiser that learn in minutes."""
    config = build_recipe(recipe, preset, "nano")
    return replace(
        config,
        encoder=_change_encoder(config, backbone=BACKBONE, image_height=IMAGE_SHAPE[0], image_width=IMAGE_SHAPE[1]),
        data=replace(config.data, views_per_step=VIEWS),
        optim=replace(config.optim, steps=STEPS),
        run=replace(config.run, meter_every=50, log_every=10),
    )


def list_arms() -> dict[str, Arm]:
    """All arms by name; those that are not pretrained lend the architecture of `HILUM`."""
    arms = [
        Arm(RANDOM, "methods", configure(), against=()),
        Arm(SUPERVISED, "methods", configure(), against=(RANDOM, HILUM)),
        *_list_methods(),
        *_list_texts(),
        *_list_targets(),
        *_list_tokens(),
        *_list_others(),
    ]
    named = {arm.name: arm for arm in arms}
    assert len(named) == len(arms), "arms have different names"
    assert all(other in named for arm in arms for other in arm.against), "arms are compared with arms"
    return named


def _list_methods() -> list[Arm]:
    """Single view, two views, tokens and transformer as in the paper, and ours; ours without the contrast of views."""
    ours, single, multi = configure(), FINAL[0], FINAL[1]
    return [
        Arm(single, "methods", configure("custom_clip", "paper"), against=(RANDOM,)),
        Arm(multi, "methods", configure("mv_clip", "paper"), against=(RANDOM, single)),
        Arm(FINAL[2], "methods", configure("mv_clip_tr", "paper"), against=(RANDOM, single, multi)),
        Arm(HILUM, "methods", ours, against=(RANDOM, *FINAL[:3])),
        Arm("without the contrast of views", "methods", replace(ours, terms={"image_text": ours.terms["image_text"]})),
    ]


def _list_texts() -> list[Arm]:
    """The same breasts in poorer and richer words; and a language model that has read the texts before, frozen or
    tuned."""
    ours = configure()
    assert ours.text_encoder is not None
    frozen = replace(ours, text_encoder=replace(ours.text_encoder, tuned=False))
    tuned, held = "language model given, tuned", "language model given, frozen"
    return [
        Arm("texts: table", "texts", ours, "table"),
        Arm("texts: template", "texts", ours, "template"),
        Arm("texts: radiologist", "texts", ours, "radiologist"),
        Arm(tuned, "language model", ours, reads_given=True),
        Arm(held, "language model", frozen, against=(HILUM, tuned), reads_given=True),
    ]


def _list_targets() -> list[Arm]:
    """What a view should find, and how strongly the views of a breast have to agree where one alone shows a finding."""
    ours = configure()
    images, views = ours.terms["image_text"], ours.terms["views"]
    assert isinstance(images, ImageTextContrast)
    assert isinstance(views, ViewContrast)

    def change(**terms: ImageTextContrast | ViewContrast) -> Config:
        return replace(ours, terms={**ours.terms, **terms})

    return [
        Arm("one-hot targets", "targets", change(image_text=replace(images, target="onehot"))),
        Arm("single views aligned by force", "single views", change(views=replace(views, single_view_weight=1.0))),
        Arm("single views left out", "single views", change(views=replace(views, single_view_weight=0.0))),
    ]


def _list_tokens() -> list[Arm]:
    """How many tokens are made of 48 x 29 places, which is the grid of 1520 x 912 px at stride 32.

    So many tokens cost more than the network: these arms have one narrow block and half the breasts in a step, and are
    compared with each other.
    """
    ours = configure()
    fewer = replace(ours.data, views_per_step=VIEWS // 2)
    middle = 256
    return [
        Arm(
            _name_tokens(number), "tokens",
            replace(ours, data=fewer, encoder=_change_encoder(ours, stride=8, num_tokens=number, width=64, depth=1)),
            against=(RANDOM,) if number == middle else (_name_tokens(middle),),
        )
        for number in (128, middle, 512, 1024)
    ]  # fmt: skip


def _name_tokens(number: int) -> str:
    return f"{number} tokens of stride 8"


def _list_others() -> list[Arm]:
    """Half the pixels and twice the breasts, which needs the same memory; and the studies of one institution."""
    ours = configure()
    height, width = (round(side / 2**0.5 / 8) * 8 for side in IMAGE_SHAPE)
    smaller = _change_encoder(ours, image_height=height, image_width=width)
    more = replace(ours.data, views_per_step=2 * VIEWS)
    home = replace(ours.data, leave_out=(ABROAD,))
    return [
        Arm(f"{height} x {width} px, twice the breasts", "resolution", replace(ours, encoder=smaller, data=more)),
        Arm("one institution", "transfer", replace(ours, data=home), against=(RANDOM, HILUM)),
    ]


def _change_encoder(config: Config, **changes: Any) -> ConvEncoderConfig:
    """A config's encoder with other settings."""
    assert isinstance(config.encoder, ConvEncoderConfig)
    return replace(config.encoder, **changes)
