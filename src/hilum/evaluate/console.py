"""What a person at the keyboard sees of an evaluation: notes, scores, where they are written, what to type next."""

from __future__ import annotations

import json
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Column, Table

from .record import list_read
from .result import Estimate, Result, read_result
from .task import UNITS, Task

_USUAL = {"uncertain": "zeros", "blank": "zeros", "leave-out": ""}
_USUALLY_READ = {"probe": "auto", "finetune": "mean", "zeroshot": "prompts"}


def name_results(
    kind: str, task: Task, *, representation: str, crossval: bool = False, choices: Mapping[str, object] | None = None
) -> str:
    """Folder of an evaluation within the run's: one for each task, protocol and choice, so that none replaces another.

    Choices enter where they are not the usual ones, policies of labels only where findings are the task. `choices` are
    further ones by name, None where it is the usual one.
    """
    further = {name: str(value) for name, value in (choices or {}).items() if value is not None}
    made = {name: task.policy[name] for name in ("uncertain", "blank") if name in task.policy} | further
    made |= {"leave-out": "-".join(task.policy.get("leave_out", [])), "representation": representation}
    usual = _USUAL | {"representation": _USUALLY_READ[kind]}
    unusual = [f"{name}-{value}" for name, value in made.items() if value != usual.get(name)]
    parts = [kind, *(["crossval"] if crossval else []), *([task.name] if task.name != "findings" else []), *unusual]
    return "-".join("".join(letter if letter.isalnum() or letter in "_-" else "-" for letter in part) for part in parts)


def list_notes(notes: Mapping[str, Sequence[str]]) -> list[str]:
    """What a reader must know, each note once; those that do not concern all (names of) results begin with names."""
    owners: dict[str, list[str]] = {}
    for name, said in notes.items():
        for note in said:
            owners.setdefault(note, []).append(name)
    return [note if len(names) == len(notes) else f"{', '.join(names)}: {note}" for note, names in owners.items()]


_READ = {
    "class": "class token",
    "mean": "mean",
    "max": "largest",
    "both": "class token, mean",
    "2x2": "2 x 2",
    "4x4": "4 x 4",
    "tokens": "tokens",
    "attentive": "tokens",
}


def describe_read(protocol: dict[str, Any]) -> str:
    """What was read of features, "" of pixels; where folds or seeds chose for themselves, how many took what."""
    if protocol.get("features", {}).get("weights") == "pixels":
        return ""
    found = Counter(list_read(protocol))
    if len(found) == 1:
        return _READ[next(iter(found))]
    return ", ".join(f"{_READ[name]} ({count} of {found.total()})" for name, count in found.most_common())


def print_probe(path: Path, data: Path, run: Path) -> None:
    """The scores of a probe.json and its differences, and the command that draws them."""
    summary, folder = json.loads(path.read_bytes()), path.parent
    arms = {arm["name"]: read_result(folder / arm["path"]) for arm in summary["arms"]}
    console = Console(highlight=False)
    _print_scores(arms, console)
    differences = [read_result(folder / entry["path"]) for entry in summary["differences"]]
    if differences:
        table = Table("difference, same patients", Column("macro AUROC", justify="right"), "interval")
        for result in differences:
            estimate = result.find("auroc")
            table.add_row(result.encoder.replace(" - ", " minus "), *_format(estimate, "+.3f"))
        console.print(table)
    _print_few_labels([read_result(folder / entry["path"]) for entry in summary["label_efficiency"]], console)
    drawn = [data, run, folder] if (run / "metrics.jsonl").is_file() else [data, folder]
    _print_end(path, drawn, console)


def print_finetuned(path: Path, run: Path) -> None:
    """The test scores of a fine-tuning, and the command that draws them."""
    result, console = read_result(path), Console(highlight=False)
    _print_scores({f"{result.encoder}, fine-tuned": result}, console)
    drawn = [run, path.parent] if (run / "metrics.jsonl").is_file() else [path.parent]
    _print_end(path, drawn, console)


def _print_scores(results: dict[str, Result], console: Console) -> None:
    for note in list_notes({name: result.notes for name, result in results.items()}):
        console.print(f"- {note}", markup=False, soft_wrap=True)
    first = next(iter(results.values()))
    name, counts = first.protocol["kind"], first.counts
    rows = counts.get("test_studies", counts.get("test_rows", 0))
    unit = UNITS[first.protocol["unit"]]
    console.print(f"Task {first.task}, {name}: {rows:,} {unit} of {counts['test_patients']:,} patients", markup=False)
    table = Table("", Column("macro AUROC", justify="right"), f"{first.level:.0%} interval", "targets", "what was read")
    for name, result in results.items():
        estimate = result.find("auroc")
        table.add_row(name, *_format(estimate, ".3f"), str(estimate.num), describe_read(result.protocol))
    console.print(table)
    if first.find("auroc").value is None:
        console.print(
            f"No score: {explain_no_score(first)}. More test patients (--fractions of `hilum cache`) would help, or "
            "--crossval of `hilum probe`, which tests on all. Single targets are in the report all the same.",
            markup=False,
            soft_wrap=True,
        )


def _print_few_labels(curves: Sequence[Result], console: Console) -> None:
    """Macro AUROC and its interval by encoder and number of labels, where there is any."""
    scored = {(one.encoder, one.protocol["label_count"]): one for one in curves if one.find("auroc").value is not None}
    if not scored:
        return
    unit = UNITS[curves[0].protocol["unit"]]
    counts = sorted({count for _, count in scored})
    table = Table(f"macro AUROC by labelled training {unit}", *(Column(f"{count:,}") for count in counts))
    for name in dict.fromkeys(name for name, _ in scored):
        found = [scored.get((name, count)) for count in counts]
        table.add_row(name, *("-" if one is None else "\n".join(_format(one.find("auroc"), ".3f")) for one in found))
    console.print(table)


def explain_no_score(result: Result) -> str:
    """Which target came nearest to entering the mean, and what it lacks."""
    left_out = [entry for entry in result.estimates if (entry.metric, entry.slice) == ("auroc", "all") and entry.reason]
    singles = [entry for entry in left_out if entry.of != "macro"]
    if not singles:
        return "nothing was scored"
    rarer = [min(entry.positives or 0, entry.num - (entry.positives or 0)) for entry in singles]
    nearest = singles[rarer.index(max(rarer))]
    return f"no target has enough of both classes among the test rows; nearest is {nearest.of}, {nearest.reason}"


def _format(estimate: Estimate, style: str) -> tuple[str, str]:
    if estimate.value is None:
        return "-", "-"
    ends = [estimate.low, estimate.high]
    interval = " to ".join(f"{end:{style}}" for end in ends if end is not None)
    return f"{estimate.value:{style}}", interval or "-"


def _print_end(path: Path, drawn: list[Path], console: Console) -> None:
    console.print(f"written: {path}", markup=False, soft_wrap=True)
    words = shlex.join(str(place) for place in drawn)
    console.print(f"Next: hilum report {words}", markup=False, soft_wrap=True)


def print_result(path: Path) -> None:
    """The notes and estimates of one result.json."""
    result, console = read_result(path), Console(highlight=False)
    for note in result.notes:
        console.print(f"note: {note}", markup=False, soft_wrap=True)
    names = (Column(name, overflow="fold") for name in ("metric", "of", "part"))  # never cut: two may begin alike
    table = Table(*names, Column("value", justify="right"), "interval", Column("rows", justify="right"))
    for one in result.estimates:
        value = "-" if one.value is None else f"{one.value:.3f}"
        interval = "" if one.low is None or one.high is None else f"{one.low:.3f} to {one.high:.3f}"
        table.add_row(one.metric, one.of, one.slice, value, interval, f"{one.num:,}")
    console.print(table)
    for name, verdict in result.protocol.get("verdicts", {}).items():
        console.print(f"random weights, {name}: {verdict['why']}", markup=False, soft_wrap=True)
    console.print(f"written: {path}", markup=False, soft_wrap=True)
