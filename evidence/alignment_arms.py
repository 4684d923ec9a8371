"""What is compared: every form of alignment that the MVMAE paper, its code and its neighbours suggest, and controls.

All arms share size, data, optimiser, share of masked patches and number of steps (but where the mask ratio is what is
asked), so that they differ in the objective alone: `paper` and `code` are these presets' objectives, decoders and
sharing of masks, at 85 % of 144 patches and not at their 90 and 93 % of 196. The presets of `hilum` are arms under the
name of their form (`PRESETS`). The size is nano: in as long, tiny stays close to its random weights (LOG.md).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from evidence.alignment_caches import Archive
from hilum.config import (
    Config,
    ContrastAlignment,
    CrossDecoder,
    PooledAlignment,
    Reconstruction,
    Term,
    TokenAlignment,
    VarianceCovariance,
    WeightConfig,
)
from hilum.recipes import Preset, build_recipe

STEPS, VIEWS = 2000, 64
PRESETS = {
    "supervised": "supervised",
    "independent": "independent",
    "mvmae code": "mvmae, code",
    "mvmae paper": "mvmae, paper",
    "InfoNCE within archives": "mvmae, hilum",
    "V2T code": "mvmae_v2t, code",
    "V2T, cross-view": "mvmae_v2t, hilum",
}  # arm -> what a user asks for
SUPERVISED = "supervised"  # the arm that is not pretrained (alignment_supervised.py)
TEXT_LENGTH = 64  # of nano in `hilum`; half of the reports have at most 35 words


@dataclass(frozen=True)
class Arm:
    """A pretraining to compare, and the question it belongs to."""

    name: str
    question: str
    config: Config
    archive: Archive = "clean"


def configure(recipe: str, preset: Preset = "hilum", *, steps: int = STEPS, ratio: float | None = None) -> Config:
    """A recipe's objective in the size and with the optimiser that learn in minutes (LOG.md)."""
    ours, config = build_recipe(recipe, "hilum", "nano"), build_recipe(recipe, preset, "nano")
    return replace(
        config,
        encoder=replace(config.encoder, image_size=96, patch_size=8),
        mask=replace(config.mask, ratio=0.85 if ratio is None else ratio),
        data=replace(
            ours.data,
            views_per_step=VIEWS,
            max_views=config.data.max_views,
            crop=replace(ours.data.crop, min_scale=0.7),
        ),
        optim=replace(ours.optim, matrices="muon", lr=3e-3, steps=steps),
        text=replace(config.text, length=TEXT_LENGTH) if recipe.startswith("mvmae_v2t") else config.text,
        run=replace(config.run, meter_every=100),
    )


def list_arms() -> dict[str, Arm]:
    """All arms by name."""
    arms = [
        Arm(SUPERVISED, "baselines", configure("independent")),
        *_list_forms(),
        *_list_reports(),
        *_list_weights(),
        *_list_masks(),
        *_list_archives(),
    ]
    named = {arm.name: arm for arm in arms}
    assert len(named) == len(arms), "arms have different names"
    for recipe in ("mvmae", "mvmae_v2t"):
        arm = next(name for name, preset in PRESETS.items() if preset == f"{recipe}, hilum")
        assert named[arm].config == configure(recipe), f"{arm} is not the preset hilum of {recipe}"
    return named


def align(term: Term, **terms: Term) -> Config:
    """Our reconstruction and one alignment."""
    config = configure("independent")
    return replace(config, recipe="mvmae", terms={**config.terms, "alignment": term, **terms})


def pull(ratio: float, *, anneal: bool = False) -> WeightConfig:
    """A weight by its share of reconstruction's gradient, from the start on or rising to it."""
    return WeightConfig(gradient_ratio=ratio, ramp="cosine" if anneal else "constant")


def contrast(config: Config | None = None, weight: WeightConfig | None = None) -> Config:
    """InfoNCE between the views of a study, told from the studies of its own archive."""
    config = config or configure("independent")
    term = ContrastAlignment(negatives="archive", weight=weight or pull(0.3))
    return replace(config, recipe="mvmae", terms={**config.terms, "alignment": term})


def cross(share: float, config: Config | None = None) -> Config:
    """Cross-view reconstruction for this share of the studies with two and more views."""
    config = config or configure("independent")
    term = config.terms["reconstruction"]
    assert isinstance(term, Reconstruction)
    assert isinstance(term.decoder, CrossDecoder)
    crossed = replace(term, decoder=replace(term.decoder, other_views=share))
    return replace(config, recipe="mvmae", terms={**config.terms, "reconstruction": crossed})


def _list_forms() -> list[Arm]:
    """What is aligned, and by which distance."""
    shared = configure("independent")
    shared = replace(shared, mask=replace(shared.mask, sharing="positions"))
    tokens = replace(shared, recipe="mvmae", terms={**shared.terms, "alignment": TokenAlignment(weight=pull(0.3))})
    guard = VarianceCovariance(of="alignment")
    forms: dict[str, Callable[[], Config]] = {
        "independent": lambda: configure("independent"),
        "mvmae paper": lambda: configure("mvmae", "paper"),
        "mvmae code": lambda: configure("mvmae", "code"),
        "tokens": lambda: tokens,
        "pooled": lambda: align(PooledAlignment(projector=(), weight=pull(0.3))),
        "pooled, guarded": lambda: align(PooledAlignment(projector=(), weight=pull(0.3)), guard=guard),
        "projected": lambda: align(PooledAlignment(weight=pull(0.3))),
        "projected, guarded, rising to ratio 0.1": lambda: align(
            PooledAlignment(weight=WeightConfig(ramp="cosine", gradient_ratio=0.1)), spread=guard
        ),
        "projected, guarded": lambda: align(PooledAlignment(weight=pull(0.3)), guard=guard),
        "projected squares, guarded": lambda: align(PooledAlignment(metric="mse", weight=pull(0.3)), guard=guard),
        "InfoNCE": lambda: align(ContrastAlignment(weight=pull(0.3))),
        "InfoNCE of class tokens": lambda: align(ContrastAlignment(feature="class", weight=pull(0.3))),
        "InfoNCE within archives": contrast,
        "cross-view": lambda: cross(0.5),
        "cross-view, always": lambda: cross(1.0),
        "cross-view, InfoNCE within archives": lambda: cross(0.5, contrast()),
        "cross-view, projected, guarded": lambda: cross(0.5, align(PooledAlignment(weight=pull(0.1)), guard=guard)),
    }
    return [Arm(name, "forms", build()) for name, build in forms.items()]


def _list_reports() -> list[Arm]:
    """Report text as a signal, beside each alignment or none, and others' reports as a control."""
    config = configure("mvmae_v2t")
    report = config.terms["captioning"]

    def caption(base: Config) -> Config:
        return replace(config, terms={**base.terms, "captioning": report})

    ours = caption(cross(0.5))
    texts: dict[str, Config] = {
        "V2T, cross-view": ours,
        "V2T, others' reports": replace(ours, data=replace(ours.data, shuffle_reports=True)),
        "V2T, InfoNCE within archives": caption(contrast()),
        "V2T, cross-view, InfoNCE within archives": caption(cross(0.5, contrast())),
        "V2T without alignment": caption(configure("independent")),
        "V2T code": configure("mvmae_v2t", "code"),
    }
    return [Arm(name, "reports", config) for name, config in texts.items()]


def _list_weights() -> list[Arm]:
    """How strongly one form pulls: a share of reconstruction's gradient or a fixed beta; from when on."""
    weights = {f"ratio {ratio:g}": pull(ratio) for ratio in (0.03, 0.1, 1.0)}
    weights |= {f"beta {beta:g}": WeightConfig(value=beta) for beta in (0.5, 1.0, 2.0)}
    weights["annealed"] = pull(0.3, anneal=True)
    return [
        Arm(f"InfoNCE within archives, {name}", "weight", contrast(weight=weight)) for name, weight in weights.items()
    ]


def _list_masks() -> list[Arm]:
    """Mask ratios in equal time: steps by what each costs."""
    return [
        Arm(
            f"InfoNCE within archives, masked {ratio:.0%}",
            "mask",
            contrast(configure("independent", ratio=ratio, steps=steps)),
        )
        for ratio, steps in ((0.75, 1700), (0.90, 2150), (0.93, 2250))
    ]


def _list_archives() -> list[Arm]:
    """Archives in which views are wrong or missing."""
    return [
        Arm("InfoNCE within archives, 5 % wrong views", "archive", contrast(), "wrong 5 %"),
        Arm("InfoNCE within archives, 20 % wrong views", "archive", contrast(), "wrong 20 %"),
        Arm("independent, one view a study", "archive", configure("independent"), "one view"),
    ]
