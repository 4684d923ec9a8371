"""All tables of PaCX-MAE's suite: the paper's first, then those that it lacks: differences, other metrics, drift."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from hilum.evaluate.distilled.alignment_probe import SLICES
from hilum.evaluate.distilled.retrieval import name_ways
from hilum.evaluate.paper.index import (
    DRIFT,
    FINETUNE,
    PROBE,
    ROLLOUT,
    Suite,
    name_alignment,
    name_count,
    name_segmentation,
)
from hilum.evaluate.paper.own_tables import tabulate_seen
from hilum.evaluate.paper.parts import POOLED
from hilum.evaluate.paper.published_yaml import simplify_name
from hilum.evaluate.paper.table import SuiteTable, find_estimate, format_estimate, format_percent
from hilum.evaluate.result import Estimate, Result
from hilum.evaluate.segmentation.scores import EVERY

from . import published
from .controls import tabulate_controls
from .published_tables import PacxResults, build_pacx_tables
from .rescued import tabulate_rescued
from .segmentation_tables import tabulate_structures

_DRIFT = {
    ("cka", "class token"): "CKA, class token",
    ("cka", "mean patch token"): "CKA, mean patch token",
    ("cosine", "class token"): "cosine, class token",
    ("cosine", "patch tokens"): "cosine, patches",
    ("cosine", "regions"): "cosine, regions",
}


class Number(NamedTuple):
    """A number that arms are compared by."""

    title: str
    kind: str  # of the difference
    metric: str
    of: str
    slice: str
    scale: float = 100.0
    digits: int = 1


def build_suite_tables(suite: Suite) -> list[SuiteTable]:
    """All tables that there are results for; with `paper` all of the paper's."""
    tables = build_pacx_tables(collect_results(suite), paper=suite.index["paper"])
    for kind in (PROBE, FINETUNE):
        tables += tabulate_metrics(suite, kind)
    tables += tabulate_controls(suite)
    tables += tabulate_differences(suite)
    tables += tabulate_structures(suite)
    tables += tabulate_retrieval(suite)
    tables += tabulate_rollout(suite)
    tables += tabulate_rescued(suite)
    tables += tabulate_drift(suite)
    return [*tables, *(tabulate_seen(suite, PROBE) if any(kind == PROBE for kind, _, _ in suite.methods) else ())]


def collect_results(suite: Suite) -> PacxResults:
    """The suite's results as the paper's tables ask for them; an arm called like a variant of the ablation is one."""
    index, archives = suite.index, suite.archives
    variants = {name: variant for name in suite.names if (variant := _match_variant(name))}
    probes = {
        (method, archive): result
        for (kind, method, count), result in suite.methods.items()
        if kind == PROBE and count is None
        for archive in archives
    }
    few = {
        (method, archive, index["shares"][str(count)] if count else 1.0): result
        for (kind, method, count), result in suite.methods.items()
        if kind == PROBE and index["shares"]
        for archive in archives
    }
    every = " and ".join(archives)
    return PacxResults(
        probes=probes,
        few_labels=few,
        segmentations={
            (f"{method}, {decoder} decoder", every): suite.methods[name_segmentation(decoder), method, None]
            for method in suite.names
            for decoder in index["decoders"]
            if (name_segmentation(decoder), method, None) in suite.methods
        },
        ablation={
            (published.ABLATIONS[variants[method]], archive): result
            for (method, archive), result in probes.items()
            if method in variants
        },
        alignment={
            (method, teacher): suite.methods[name_alignment(teacher), method, None]
            for method in suite.names
            for teacher in index["teachers"]
            if (name_alignment(teacher), method, None) in suite.methods
        },
        head=index["head"],
    )


def tabulate_metrics(suite: Suite, kind: str) -> list[SuiteTable]:
    """What a macro AUROC and an F1 do not tell (P 12-16), on all test studies."""
    titles = {
        "auroc": "AUROC",
        "average_precision": "AUPRC",
        "f1": "F1, tuned threshold",
        "f1_at_half": "F1 at 0.5",
        "brier_error": "Brier error",
    }
    rows = []
    for method in suite.names:
        if result := suite.methods.get((kind, method, None)):
            cells = [format_percent(find_estimate(result, metric, "macro", POOLED)) for metric in titles]
            num = find_estimate(result, "auroc", "macro", POOLED).num
            rows.append([method, *cells, f"{num} of {suite.index['num_labels']}"])
    least = suite.index["min_positives"]
    caption = (
        "Macro means in percent on all test studies, 95 % intervals by patient; thresholds are tuned on validation. "
        f"Labels without {least} studies that have them and {least} that have not enter no mean: so many did."
    )
    caption += f" {published.PROBES[suite.index['head']]}" if kind == PROBE else ""
    columns = ["", *titles.values(), "labels"]
    return [SuiteTable(f"Metrics, {suite.title(kind)}", columns, rows, caption)] if rows else []


def tabulate_differences(suite: Suite) -> list[SuiteTable]:
    """Every arm minus the first one, paired by patient: a row for each number."""
    first = suite.index["first"]
    others = [name for name in suite.names if name != first]
    rows = []
    for number in list_numbers(suite):
        found = [_find(suite.differences.get((number.kind, name, first)), number) for name in others]
        if any(one is not None for one in found):
            cells = [
                "-" if one is None else format_estimate(one, number.scale, number.digits, sign=True) for one in found
            ]
            rows.append([number.title, *cells])
    caption = (
        f"Each arm minus {first} on the same patients, paired; runs of an arm are averaged. Percentage points but for "
        "cosines, R2 and distances of borders, which are in pixels. An interval that holds 0 settles nothing."
    )
    columns = ["", *(f"{name} minus {first}" for name in others)]
    return [SuiteTable(f"Differences to {first}", columns, rows, caption)] if rows else []


def list_numbers(suite: Suite) -> Iterator[Number]:
    """What arms are compared by, in the order of the tables."""
    index = suite.index
    titles = {"auroc": "AUROC", "average_precision": "AUPRC", "f1": "F1"}
    for kind in (PROBE, FINETUNE):
        for metric, title in titles.items():
            yield Number(f"{title}, {suite.title(kind)}", kind, metric, "macro", POOLED)
    for count, share in sorted(((int(count), share) for count, share in index["shares"].items()), reverse=True):
        title = f"AUROC, {suite.title(PROBE)}, {100 * share:g}% of the labels"
        yield Number(title, name_count(PROBE, count), "auroc", "macro", POOLED)
    for teacher in index["teachers"]:
        name, slice = published.TEACHERS.get(teacher, teacher), SLICES["chosen"]
        for metric, title in (("centred_cosine", "centred cosine"), ("r2", "R2")):
            yield Number(f"{name}: {title}", name_alignment(teacher), metric, teacher, slice, 1.0, 3)
        for own, title in ((False, "R@1"), (True, "R@1, own candidates")):
            way, _ = name_ways(teacher, own=own)
            yield Number(f"image to {name}: {title}", name_alignment(teacher), "recall_at_1", teacher, way)
    for decoder in index["decoders"]:
        for metric, title in (("iou", "IoU"), ("dice", "Dice")):
            yield Number(f"{title}, {decoder} decoder", name_segmentation(decoder), metric, "macro", EVERY)
        borders = f"border, 95 %, {decoder} decoder"
        yield Number(borders, name_segmentation(decoder), "hausdorff_95", "macro", EVERY, 1.0)
    for structure in index["structures"]:
        for reader in ("class token", "mean patch token"):
            yield Number(f"rollout inside {structure}, {reader}", ROLLOUT, "rollout_share", structure, reader)


def tabulate_retrieval(suite: Suite) -> list[SuiteTable]:
    """R@k of the probe's predictions among the test studies' vectors, and back."""
    rows = []
    for teacher in suite.index["teachers"]:
        for method in suite.names:
            result = suite.methods.get((name_alignment(teacher), method, None))
            ways = () if result is None else (*name_ways(teacher), *name_ways(teacher, own=True))
            for way in ways:
                assert result is not None
                if _find_any(result, "recall_at_1", teacher, way) is None:
                    continue  # the archive lists no candidates
                cells = [
                    format_percent(find_estimate(result, f"{what}_at_{top}", teacher, way))
                    for what in ("recall", "chance")
                    for top in (1, 5, 10)
                ]
                rows.append([f"{method}, {way}", *cells])
    columns = ["", *(f"R@{top}" for top in (1, 5, 10)), *(f"chance@{top}" for top in (1, 5, 10))]
    caption = (
        "Share of test studies, in percent, whose own vector is among the first, of all test studies that have one; "
        "own candidates: of the few that the archive lists for each query (Symile-MIMIC: ten), where it does."
    )
    return [SuiteTable("Retrieval", columns, rows, caption)] if rows else []


def tabulate_rollout(suite: Suite) -> list[SuiteTable]:
    """How much of the attention rollout (P 3.6), and of what each teacher reads, lies inside each structure, beside the
    structure's own area."""
    rows = []
    structures = suite.index["structures"]
    for method in suite.names:
        if result := suite.methods.get((ROLLOUT, method, None)):
            for reader in result.protocol["maps"]:
                found = (find_estimate(result, "rollout_share", one, reader) for one in structures)
                rows.append([f"{method}, {reader}", *(format_percent(one) for one in found)])
    result = next((one for (kind, _, _), one in suite.methods.items() if kind == ROLLOUT), None)
    if result is not None:
        areas = (find_estimate(result, "area_share", one, "all") for one in structures)
        rows.append(["an even rollout", *(format_percent(one) for one in areas)])
    caption = (
        "Share of the attention rollout inside each structure in percent, mean over test images that show it; an even "
        "rollout has a structure's share of the image. Images are normalised as the encoder knows them."
    )
    return [SuiteTable("Attention rollout", ["", *structures], rows, caption)] if rows else []


def tabulate_drift(suite: Suite) -> list[SuiteTable]:
    """How far each arm has moved from the encoder that it started from."""
    results = {name: suite.methods[DRIFT, name, None] for name in suite.names if (DRIFT, name, None) in suite.methods}
    shown = {title: [_find_any(result, *name) for result in results.values()] for name, title in _DRIFT.items()}
    shown = {title: found for title, found in shown.items() if any(one is not None for one in found)}
    rows = [
        [
            f"{method} from {result.protocol['start']}",
            *("-" if (one := found[place]) is None else format_estimate(one, 1.0, 3) for found in shown.values()),
        ]
        for place, (method, result) in enumerate(results.items())
    ]
    caption = (
        "Likeness of features of the test images before and after: 1 is the same encoder. CKA compares how images lie "
        "to each other, cosines the features themselves."
    )
    return [SuiteTable("Drift from the start", ["", *shown], rows, caption)] if rows else []


def _match_variant(name: str) -> str | None:
    plain = simplify_name(name)
    return next((key for key, title in published.ABLATIONS.items() if plain in map(simplify_name, (key, title))), None)


def _find(result: Result | None, number: Number) -> Estimate | None:
    return None if result is None else _find_any(result, number.metric, number.of, number.slice)


def _find_any(result: Result, metric: str, of: str, slice: str = "all") -> Estimate | None:
    name = (metric, of, slice)
    return next((one for one in result.estimates if (one.metric, one.of, one.slice) == name), None)
