"""The numbers published for MV-MLM (L 3.1), to stand beside a user's own, and what a reader must know of each."""

from __future__ import annotations

from hilum.evaluate.paper.index import FINETUNE, PROBE
from hilum.evaluate.paper.published_yaml import read_published

MODELS = {"custom_clip": "Custom-CLIP", "mv_clip": "MV-CLIP", "mv_clip_tr": "MV-CLIP+Tr (MV-MLM)"}
HEADLINE = "MV-MLM, headline"
# Name in the table of risk, and the footnotes that concern it.
RISK_MODELS = {
    "mv_mlm": ("MV-MLM", ("unnamed", "private")),
    "prime_before": ("before PRIME+", ("unnamed", "private")),
    "prime": ("PRIME+", ("unnamed", "private", "earlier")),
    "mirai_mgh": ("Mirai", ("cancers", "private")),
    "mirai_karolinska": ("Mirai", ("cancers", "private")),
    "mirai_chang_gung": ("Mirai", ("cancers", "private")),
    "mirai_brest": ("Mirai", ("same",)),
    "brest": ("BREST", ("same",)),
}

# Key -> what is wrong with, or special to, a published number. Tables print those that concern them.
FOOTNOTES = {
    "single": "Published numbers are of one run, without intervals; split, unit and the rule that selected are not "
    "stated, and the field's usual protocol selects on its test data (L 3.2). Private pretraining data: not "
    "reproducible.",
    "headline": "The headline triple is most likely of linear probes: its 0.7649 for mass is below the 0.8614 that is "
    "published for the fine-tuned model.",
    "twice": "0.6941 is given for both 10 % and 100 % of the labels: which one it is of is unreliable.",
    "shares": "Stated at 10 % of the labels, beside rows stated at 100 %: the steps of this ablation may mix shares.",
    "steps": "The ablation's steps are of 0.010 to 0.015; on one public test split unpaired gaps below about 0.04 to "
    "0.05 are noise.",
    "unnamed": "Which C-index it is of is not told; in simulations the indices of one name differ by 0.03 (L 3.5).",
    "private": "Of test data that are not public, each its own: numbers of two rows compare no models.",
    "same": "Both on the same women, whose data are not public; without intervals or a paired test here.",
    "earlier": "Reads earlier exams of the same woman too.",
    "cancers": "Mirai's released C-index weighs by cancers, not by censoring: `c_index_mirai`, not `c_index_uno`.",
}


def find_headline(task: str) -> float | None:
    """AUROC of the headline for a task such as "breast:mass"; the unit is not stated, so it stands beside either."""
    return read_published("mvmlm")["headline"].get(task.partition(":")[2])


def find_ablation(kind: str, model: str, task: str) -> tuple[float, tuple[str, ...]] | None:
    """AUROC of a model with all labels, by probes or fine-tuned, and the footnotes that concern it; None: not told."""
    if task.partition(":")[2] != "mass":
        return None
    table = read_published("mvmlm")["mass_ablation"]
    if kind == FINETUNE:
        value = table["finetune"].get(model)
        return None if value is None else (value, ("steps",))
    found = table["linear_probe"].get(model) if kind == PROBE else None
    if found is None:
        return None
    value = found.get(1.0, found.get(0.1))
    marks = ("twice",) if len(found) > 1 else () if 1.0 in found else ("shares",)
    return value, (*marks, "steps")
