"""What a run says before its first step: size, where it starts from, what its data cannot teach, memory it needs.

All are functions of the config and of what was opened for it, and give lines to print.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch

from hilum.cache import Cache
from hilum.config import Config, find_batch_terms, find_cross_view_terms, find_pair_terms
from hilum.model.adapt import count_trained, list_own_tensors
from hilum.model.conv_encoder import ConvEncoder
from hilum.model.encoder import Encoder
from hilum.objective.objective import Objective
from hilum.sampler import FindingShare
from hilum.teachers.vectors import TeacherVectors
from hilum.text.descriptions import DescriptionTable
from hilum.text.report_tokens import ReportTokens, list_absent_sections

from .memory import describe_memory, estimate_memory, measure_available_memory


def describe_run(
    config: Config,
    objective: Objective,
    *,
    precision: str,
    num_processes: int,
    num_steps: int,
    num_done: int,
    epochs: float,
) -> list[str]:
    """Its size."""
    num_parameters, num_trained = sum(one.numel() for one in objective.parameters()), count_trained(objective)
    of_them = f" ({num_trained / 1e6:.1f} M of them are trained)" if config.adapter is not None else ""
    return [
        f"{num_parameters / 1e6:.1f} M parameters{of_them}, {num_steps} steps of {config.data.views_per_step} views "
        f"({epochs:.1f} epochs), {precision}, {num_processes} process(es)"
        + (f", continued at step {num_done}" if num_done else "")
    ]


def describe_start(
    config: Config, encoder: Encoder | ConvEncoder, starts_at_zero: Sequence[str], starts_anew: Sequence[str] = ()
) -> list[str]:
    """Of a run that starts from another's weights: which, and what of them was used."""
    if config.initial_weights is None:
        return []
    if isinstance(encoder, ConvEncoder):
        anew = f"; {', '.join(starts_anew)} start anew" if starts_anew else ""
        return [f"Started from {config.initial_weights.file}: all tensors of the network matched{anew}"]
    num_matched = len(list_own_tensors(encoder)) - len(starts_at_zero)
    anew = "".join(f"{name}, which the file does not have, starts at zero, " for name in starts_at_zero)
    return [
        f"Started from {config.initial_weights.file}: all {num_matched} tensors of it matched, none missing, "
        f"none unexpected; {anew}decoders and projectors start anew"
    ]


def warn_of_missing_views(config: Config, cache: Cache, multi_view_floor: float) -> list[str]:
    """What asks for studies of two and more views and finds none, or too few.

    Args:
        config: The run's.
        cache: Its data.
        multi_view_floor: Share of such studies in a step that the loader keeps to.
    """
    most_views = int(cache.studies["num_views"][cache.rows("train", config.data.leave_out)].max())
    idle = [f"terms.{name} will teach nothing" for name in find_pair_terms(config)]
    idle += [f"terms.{name}.decoder.other_views finds none" for name in find_cross_view_terms(config)]
    if idle and most_views < 2:
        return [
            f"warning: no study of the training split has two views, so {' and '.join(idle)}: take the recipe "
            "`independent`, or a cache in which the views of a study are together"
        ]
    if multi_view_floor < config.data.multi_view_floor:
        return [
            f"Studies with two or more views are at least {multi_view_floor:.0%} of a step, not "
            f"{config.data.multi_view_floor:.0%}: they are few, and none is drawn more than "
            f"{config.data.max_oversampling:g} times as often as another (data.max_oversampling)"
        ]
    return []


def describe_findings(config: Config, findings: tuple[FindingShare, Mapping[str, int]] | None) -> list[str]:
    """Where steps hold more breasts with findings than there are: which, and how much more often they are drawn."""
    if findings is None:
        return []
    found, kinds = findings
    what = "Breasts" if config.data.one_per_patient else "Exams"
    named = ", ".join(f"{kind} {num:,}" for kind, num in sorted(kinds.items(), key=lambda one: -one[1]))
    often = (
        f"each drawn {found.times:.1f} times as often as one without"
        if np.isfinite(found.times)
        else "and nothing else is drawn"
    )
    limited = found.share < config.data.finding_share - 0.005
    return [
        f"{what} with a finding: {found.num:,} of {found.of:,} (breasts with {named}); they are {found.share:.0%} of a "
        f"step (data.finding_share), {often}"
        + (
            f"; not {config.data.finding_share:.0%}, since none is drawn more than {config.data.max_oversampling:g} "
            "times as often as another (data.max_oversampling)"
            if limited
            else ""
        )
    ]


def warn_of_small_steps(config: Config, mean_views: float, steps_per_epoch: int) -> list[str]:
    """Where patients with many breasts or studies, of whom no step shows two, make steps far smaller than asked for."""
    if not config.data.one_per_patient or steps_per_epoch < 2 or mean_views > config.data.views_per_step / 2:
        return []
    return [
        f"warning: steps hold about {mean_views:.0f} views, not {config.data.views_per_step}: one patient is in all "
        f"{steps_per_epoch:,} steps of an epoch, since none shows two of one patient (data.one_per_patient; false "
        "masks them instead)"
    ]


def describe_reports(config: Config, cache: Cache, texts: ReportTokens | None) -> list[str]:
    """Of a run that learns from reports: how many there are, and sections that no study has."""
    if texts is None:
        return []
    rows = cache.rows("train", config.data.leave_out)
    lines = [
        f"Reports of {int(texts.has_report(rows).sum()):,} of {len(rows):,} training studies, in a "
        f"vocabulary of {texts.layout.num_words:,}"
        + (" (dealt out anew: every study has another's)" if config.data.shuffle_reports else "")
    ]
    if absent := list_absent_sections(cache, config.text):
        lines.append(f"warning: text.sections: no study of the cache has {', '.join(absent)}")
    return lines


def describe_descriptions(config: Config, cache: Cache, table: DescriptionTable | None) -> list[str]:
    """Of a run that compares images with texts: how many there are, and how often the same is said."""
    if table is None or config.text_encoder is None:
        return []
    rows = cache.rows("train", config.data.leave_out)
    chosen = np.isin(table.study, rows)
    distinct = (
        len(np.unique(table.facts[chosen], axis=0)) if table.facts.shape[1] else len(np.unique(table.text[chosen]))
    )
    reader = config.text_encoder.source.name if config.text_encoder.source else "a language model of random weights"
    return [
        f"Texts of {int(table.has_text(rows).sum()):,} of {len(rows):,} training studies, {int(chosen.sum()):,} in all "
        f"with {distinct:,} distinct descriptions, read by {reader}, "
        f"{'lower-case' if config.text_encoder.lower_case else 'cased'}"
        + (", states stored" if table.states is not None else "")
        + (" (dealt out anew: every study has another's)" if config.data.shuffle_reports else "")
    ]


def describe_teachers(config: Config, cache: Cache, teachers: Mapping[str, TeacherVectors]) -> list[str]:
    """Of a run that learns from teachers: what each knows of the training studies, and how many none knows."""
    if not teachers:
        return []
    rows = cache.rows("train", config.data.leave_out)
    known = {name: teacher.of_study[rows] >= 0 for name, teacher in teachers.items()}
    each = ", ".join(f"{name} ({teachers[name].width} numbers) of {int(has.sum()):,}" for name, has in known.items())
    num_all = int(np.logical_and.reduce(list(known.values())).sum())
    num_none = len(rows) - int(np.logical_or.reduce(list(known.values())).sum())
    control = {
        "own": "",
        "shuffled": " (dealt out anew: every study has another's)",
        "random": " (noise in place of all vectors)",
    }
    return [
        f"Teachers' vectors{control[config.teachers.pairs]}: {each} of {len(rows):,} training studies; "
        f"{num_all:,} have all, {num_none:,} none"
    ]


def describe_room(objective: Objective, config: Config, views: float, *, half: bool, device: torch.device) -> str:
    """Memory that a micro-batch of so many views needs of what there is."""
    fixed, activations = estimate_memory(objective, config, views=views, half=half)
    return describe_memory(fixed, activations, measure_available_memory(device), find_batch_terms(config))
