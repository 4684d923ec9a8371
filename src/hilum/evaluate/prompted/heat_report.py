"""Heat maps of prompts, scored: the pointing game on lesions, and what is left of the maps with random weights.

result.json     hit rates, chance and the breast's centre, and the test's rank correlations, with intervals
resamples.npz   what each of these was on every resample of patients, so that two runs can be compared
maps.parquet    a row for each view, finding and tolerance
overlays/       pictures of some of the views in their source's geometry
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from jaxtyping import Float, Int

from hilum.atomic import open_atomic
from hilum.cache import Cache
from hilum.checksums import hash_parts
from hilum.errors import UserError
from hilum.evaluate.features import Precision
from hilum.evaluate.result import Estimate, Hashes, Result, hash_code
from hilum.evaluate.scoring.bootstrap import LEVEL, NUM_RESAMPLES
from hilum.evaluate.scoring.intervals import NO_SPREAD, estimate_weighted, resample_mean, widen_certain
from hilum.evaluate.scoring.resamples import write_resampled
from hilum.model.places import place_results
from hilum.outputs import check_result_folder
from hilum.text.prompts import hash_prompts, read_prompts

from .lesions import Lesions, list_lesions
from .localise import Located, PlaceMap, choose_views, find_inner_places, locate, map_lesions
from .randomisation import (
    MOST_ALIKE,
    correlate_ranks,
    judge_randomisation,
    list_cascade,
    measure_structure,
    randomise,
)
from .towers import Towers, open_towers

MAPS, OVERLAYS = "maps.parquet", "overlays"
TOLERANCE_MM = 5.0
# What a maximum is compared with: of which rows, and what is taken off.
_POINTED = {
    "pointing_hit": ("hit", None),
    "pointing_chance": ("chance", None),
    "pointing_centre": ("centre", None),
    "pointing_above_chance": ("hit", "chance"),
    "pointing_above_centre": ("hit", "centre"),
}
Draw = Callable[[Path, Cache, Located], None]


@dataclass(frozen=True)
class Rules:
    """How intervals are resampled."""

    num_resamples: int
    seed: int = 0


def run_heatmap(
    data: Path,
    run: Path,
    out: Path | None = None,
    *,
    findings: Sequence[str] = ("mass", "calcification"),
    split: str = "test",
    prompts: Path | None = None,
    language_model: Path | None = None,
    leave_out: Sequence[str] = (),
    tolerance_mm: float = TOLERANCE_MM,
    randomised_views: int = 100,
    seed: int = 0,
    examples: int = 12,
    draw: Draw | None = None,
    batch_views: int = 64,
    precision: Precision = "auto",
    num_resamples: int = NUM_RESAMPLES,
    progress: bool = True,
) -> Path:
    """Map the prompts of findings over the views in which archives drew them, and score where the maps are largest.

    Args:
        data, run: a cache folder, and a run that compared images with texts.
        out: by default `heatmap` in the run's folder.
        findings: kinds of finding, each with prompts.
        split: whose views are scored; nothing is chosen by them.
        prompts, language_model: see `run_zero_shot`.
        leave_out: archives of the cache whose views are not scored.
        tolerance_mm: a maximum so far from a lesion counts as a hit too, in numbers of their own.
        randomised_views: of how many maps the weight-randomisation test is made, drawn; 0: none.
        seed: of random weights.
        examples: pictures, drawn by study and not by what came out, by `draw` (path, cache, map).

    Raises:
        UserError: see `open_towers`; nobody says where these findings are in the split.
    """
    cache = Cache.open(data)
    said = read_prompts(findings, prompts)
    lesions = list_lesions(cache, tuple(findings), split, leave_out)
    if out is not None:
        check_result_folder(out)
    out = out or place_results(run, "heatmap" if split == "test" else f"heatmap-{split}")
    towers = open_towers(
        cache, run, said, split=split, leave_out=leave_out, language_model=language_model, precision=precision
    )
    rules, shown = Rules(num_resamples), "heat maps" if progress else None
    chosen = set(map(id, choose_views(cache, lesions, examples, "overlay"))) if draw else set()
    maps: dict[int, PlaceMap] = {}
    rows: list[dict[str, Any]] = []
    unseen = 0
    out.mkdir(parents=True, exist_ok=True)
    for stale in (out / OVERLAYS).glob("*.png"):
        stale.unlink()  # of an earlier command: a report would show them beside other numbers
    for one, places in map_lesions(towers, lesions, towers.image, batch_views=batch_views, title=shown):
        located = locate(towers, one, places)
        if not (located.marked & located.breast).any():
            unseen += 1
            continue
        maps[id(one)] = places
        rows += _score_view(cache, located, (0.0, tolerance_mm) if tolerance_mm else (0.0,))
        if draw and id(one) in chosen:
            draw(out / OVERLAYS / f"{len(maps):04d}-{one.kind.replace(' ', '-')}.png", cache, located)
    if not rows:
        raise UserError(
            f"{cache.path}: none of {len(lesions):,} views shows its lesion in the part that the cache keeps."
        )
    table = pl.DataFrame(rows)
    scored = [one for one in lesions if id(one) in maps]
    estimates = _estimate_pointing(cache, table, rules)
    cascade: dict[str, tuple[str, ...]] = {}
    verdicts: dict[str, dict[str, Any]] = {}
    if randomised_views:
        cascade = list_cascade(towers.image)
        tested = choose_views(cache, scored, randomised_views, "randomised maps")
        estimates += _estimate_randomised(towers, tested, maps, cascade, seed, batch_views, progress, rules)
        verdicts = _judge(estimates, findings, list(cascade)[-1])
    named = cache.table().select("dataset", "study", "views").explode("views").unnest("views")
    named = named.select("dataset", "study", "laterality", "path", view_kind="kind").with_row_index("view")
    with open_atomic(out / MAPS) as file:
        table.join(named.cast({"view": pl.Int64}), on="view", how="left").drop("patient").write_parquet(file)
    protocol = {
        "kind": "localisation",
        "map": "logit of each token before pooling, over the places it reads",
        "tokenizer": towers.image.config.tokenizer,
        "tokens": towers.image.config.num_tokens,
        "scale": towers.scale,
        "split": split,
        "tolerances_mm": sorted(set(table["tolerance_mm"].to_list())),
        "chance": "the lesion's share of the breast's area",
        "prompts": {name: {"present": list(one.present), "absent": list(one.absent)} for name, one in said.items()},
        "prompts_digest": hash_prompts(said),
        "cascade": {name: list(parts) for name, parts in cascade.items()},
        "most_alike": MOST_ALIKE,
        "verdicts": verdicts,
        "precision": towers.viewing.precision,
    }
    record = _record(cache, towers, table, findings, protocol, estimates, unseen, seed, rules)
    scored_rows = [table[name].to_list() for name in ("view", "patient", "finding", "tolerance_mm")]
    write_resampled(out, record, hash_parts([cache.digest, randomised_views, *scored_rows]))
    return out / "result.json"


def _score_view(cache: Cache, located: Located, tolerances: Sequence[float]) -> list[dict[str, Any]]:
    view = located.lesions.view
    row, column = located.find_peak(cache).tolist()
    about = {
        "view": view,
        "patient": int(cache.studies["patient"][cache.views["study"][view]]),
        "finding": located.lesions.kind,
        "peak_row": row,
        "peak_column": column,
        "by": " and ".join(_list_sources(located.lesions)),
    }
    scored = {tolerance: located.score(tolerance) for tolerance in tolerances}
    return [{**about, "tolerance_mm": one, **found} for one, found in scored.items() if found is not None]


def _list_sources(lesions: Lesions) -> list[str]:
    return [name for name, found in (("mask", len(lesions.masks)), ("box", len(lesions.boxes))) if found]


def _estimate_pointing(cache: Cache, table: pl.DataFrame, rules: Rules) -> list[Estimate]:
    estimates: list[Estimate] = []
    parts = table.partition_by("finding", "tolerance_mm", as_dict=True, maintain_order=True)
    for (finding, tolerance), part in sorted(parts.items(), key=str):
        patient = part["patient"].to_numpy()
        for metric, (name, less) in _POINTED.items():
            value = part[name].to_numpy() - (0 if less is None else part[less].to_numpy())
            slice = f"tolerance={tolerance:g} mm"
            found = estimate_mean(value, patient, rules, metric=metric, of=str(finding), slice=slice)
            estimates.append(widen_certain(found, part[name].to_numpy(), patient, is_share=less is None))
    return estimates


def estimate_mean(
    value: Float[np.ndarray, " view"],
    patient: Int[np.ndarray, " view"],
    rules: Rules,
    *,
    metric: str,
    of: str,
    slice: str,
) -> Estimate:
    """The mean over views with its interval by patient; of a single patient, whose resamples are all the same, none."""
    found = estimate_weighted(
        partial(resample_mean, value), patient, metric=metric, of=of, slice=slice, num_resamples=rules.num_resamples,
        seed=rules.seed,
    )  # fmt: skip
    if len(np.unique(patient)) > 1:
        return found
    return replace(found, low=None, high=None, reason=f"a single patient: {NO_SPREAD}")


def _estimate_randomised(
    towers: Towers,
    lesions: Sequence[Lesions],
    maps: dict[int, PlaceMap],
    cascade: dict[str, tuple[str, ...]],
    seed: int,
    batch_views: int,
    progress: bool,
    rules: Rules,
) -> list[Estimate]:
    """Rank correlation and structural similarity of trained maps and those with random weights, by step and finding."""
    cache, estimates = towers.viewing.cache, []
    inner = {one.view: find_inner_places(towers, one.view, maps[id(one)].shape) for one in lesions}
    for step, parts in cascade.items():
        forgetful = randomise(towers.image, parts, seed)
        title = f"without {step}" if progress else None
        found: dict[str, list[tuple[int, float, float]]] = {}
        for one, places in map_lesions(towers, lesions, forgetful, batch_views=batch_views, title=title):
            trained, inside = maps[id(one)], inner[one.view]
            alike = correlate_ranks(trained[inside], places[inside]), measure_structure(trained, places, inside)
            patient = int(cache.studies["patient"][cache.views["study"][one.view]])
            found.setdefault(one.kind, []).append((patient, *alike))
        for kind, entries in sorted(found.items()):
            patient, *values = (np.array(column) for column in zip(*entries, strict=True))
            for metric, value in zip(("map_rank_correlation", "map_structure"), values, strict=True):
                estimates.append(estimate_mean(value, patient, rules, metric=metric, of=kind, slice=f"random={step}"))
    return estimates


def _judge(estimates: Sequence[Estimate], findings: Sequence[str], last: str) -> dict[str, dict[str, Any]]:
    verdicts = {}
    for one in estimates:
        if (one.metric, one.slice) == ("map_rank_correlation", f"random={last}") and one.of in findings:
            passes, why = judge_randomisation(one)
            verdicts[one.of] = {"passes": passes, "why": why}
    return verdicts


def _record(
    cache: Cache, towers: Towers, table: pl.DataFrame, findings: Sequence[str], protocol: dict[str, Any],
    estimates: list[Estimate], unseen: int, seed: int, rules: Rules,
) -> Result:  # fmt: skip
    views = table["view"].unique().to_numpy()
    lacking = [name for name in findings if name not in table["finding"].to_list()]
    notes = ["No box or mask was read in training, and nothing was chosen by them here."]
    if protocol["split"] == "train":
        notes.append("The run learned from these studies: what is found here says nothing of others.")
    notes += [f"Of {', '.join(lacking)} no view of this split has a box or a mask."] if lacking else []
    notes += [f"{unseen:,} views whose lesion lies outside what the cache keeps do not count."] if unseen else []
    notes += [
        f"The test of random weights was not passed for {name}: its maps may show edges and brightness, whatever was "
        "learned."
        for name, verdict in protocol["verdicts"].items() if not verdict["passes"]
    ]  # fmt: skip
    studies = cache.views["study"][views]
    return Result(
        encoder=towers.name,
        task=f"localisation: {', '.join(sorted(set(table['finding'])))}",
        protocol=protocol,
        seed=seed,
        estimates=estimates,
        hashes=Hashes(cache.digest, hash_parts([cache.digest, views]), towers.weights, hash_code()),
        counts={
            "test_patients": table["patient"].n_unique(),
            "test_studies": len(np.unique(studies)),
            "test_views": len(views),
        },
        level=LEVEL,
        num_resamples=rules.num_resamples,
        notes=(*notes, *towers.seen),
    )
