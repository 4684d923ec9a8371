"""An evaluation suite: the paper's tables on the user's cache, with its figures."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from hilum.evaluate.console import list_notes
from hilum.evaluate.paper.index import CASES, FINETUNE, MAPS, PROBE, RESCUED, ROLLOUT, Suite, read_suite, take_task
from hilum.evaluate.paper.parts import MEAN, name_part
from hilum.evaluate.paper.table import SuiteTable, find_estimate, summarise
from hilum.evaluate.paper.tables import build_tables

from .blocks import Block, Section, Table, Tile
from .rollout_figures import RolloutCase, encode_maps, encode_rollouts
from .suite_figures import draw_suite

_PUBLISHED = " Dashed, for archives that the paper has: published, of fine-tuned models on its validation split."
_MAPS = (
    "Test images, and what of them reaches the class token and the mean of the patches by attention rollout; where a "
    "teacher reads patches by an attention of its own, that too. A share of the area is what an even map has."
)
_CASES = (
    "The first image of each of {cases} test {of} with a finding that the first encoder's probe misses and the other's "
    "finds; what of it reaches each encoder's {reader} by attention rollout, on one scale, and the difference. Taken "
    "in the order of findings and {of}, whatever they look like. They are a selection and no result: the table Rescued "
    "and lost says how many went the other way."
)
_OWNERS = {"mvmae": "MVMAE", "pacx": "PaCX-MAE", "mvmlm": "MV-MLM"}
_CAPTIONS = {
    "few": "Mean over draws of the labelled patients and over runs; bands reach from the worst to the best.",
    "radar": "AUROC of each finding that enters the mean.",
    "views": "The same studies, seen by their first view and by both; intervals by patient.",
}


def build_evaluation_section(folder: Path) -> tuple[Section, list[Tile]]:
    """Tables and figures of a folder with a suite.json."""
    suite = read_suite(folder)
    blocks = [Block(text=[_describe(suite)])]
    notes = list_notes({encoder["name"]: encoder["notes"] for encoder in suite.index["encoders"]})
    if notes := [*suite.index["notes"], *notes]:
        blocks.append(Block(text=notes, is_note=True))
    if suite.index["failed"]:
        failed = [f"{name}: {message}" for name, message in suite.index["failed"].items()]
        blocks.insert(0, Block("Evaluations that failed", text=failed, is_note=True))
    blocks += [block for table in build_tables(suite) for block in _show_table(table)]
    figures: dict[str, list[str]] = {}
    for name, drawn in draw_suite(suite).items():
        figures.setdefault(name.split("-")[0], []).append(drawn)
    captions = dict(_CAPTIONS)
    name = suite.index["suite"]
    if suite.index["paper"] and name == "mvmae":
        captions["radar"] += _PUBLISHED
    titles = {"few": "Label efficiency", "radar": "Findings", "views": "One view or two"}
    blocks += [Block(titles[kind], figures=drawn, caption=captions[kind]) for kind, drawn in figures.items()]
    blocks += [
        Block(f"Where {encoder} looks", figures=[drawn], caption=_MAPS) for encoder, drawn in _draw_maps(folder, suite)
    ]
    blocks += _show_cases(folder, suite)
    return Section(f"suite-{name}", f"Evaluation: {_OWNERS[name]}'s protocols", blocks), _build_tiles(suite)


def _draw_maps(folder: Path, suite: Suite) -> Iterator[tuple[str, str]]:
    """Each arm's first run with a rollout: its name, and the maps of some test images."""
    seen = set()
    for cell in suite.index["cells"]:
        path = (folder / cell["path"]).parent / MAPS
        if cell["kind"] == ROLLOUT and cell["method"] not in seen and path.is_file():
            seen.add(cell["method"])
            with np.load(path, allow_pickle=False) as stored:
                maps = {str(title): stored[f"map_{place}"] for place, title in enumerate(stored["title"])}
                yield cell["encoder"], encode_maps(stored["image"].astype(np.float32), maps)


def _show_cases(folder: Path, suite: Suite) -> Iterator[Block]:
    """Rescued cases of each arm that has some."""
    for entry in suite.index["methods"]:
        path = (folder / entry["path"]).parent / CASES
        if entry["kind"] == RESCUED and path.is_file():
            about = suite.methods[RESCUED, entry["method"], None].protocol
            drawn = encode_rollouts(read_cases(path), (suite.index["first"], entry["method"]))
            heading = f"Missed by {about['first']}, found by {about['second']}"
            yield Block(heading, figures=[drawn], caption=_CASES.format(**about))


def read_cases(path: Path) -> list[RolloutCase]:
    """What an evaluation stored of rescued cases; outlines only of structures that somebody drew."""
    with np.load(path, allow_pickle=False) as stored:
        masks = {str(name): stored[f"mask_{place}"] for place, name in enumerate(stored["structure"])}
        return [
            RolloutCase(
                stored["image"][i].astype(np.float32), stored["first"][i], stored["second"][i], str(finding),
                {name: mask[i] for name, mask in masks.items() if mask[i].any()},
            )
            for i, finding in enumerate(stored["finding"])
        ]  # fmt: skip


def _describe(suite: Suite) -> str:
    index = suite.index
    if "tasks" in index:
        what = f" of {len(index['tasks'])} tasks" if index["tasks"] else ""
        return (
            f"{len(index['cells'])} evaluations{what} on {', '.join(index['archives'])}. "
            "Every number is of the test split; settings and thresholds were chosen on validation."
        )
    policy = ", ".join(f"{name} {value}" for name, value in index["labels"].items())
    archives = ", ".join(index["archives"])
    return (
        f"{len(index['cells'])} evaluations on {archives}, {index['num_train']:,} labelled training studies; label "
        f"policies: {policy}. Every number is of the test split; settings and thresholds were chosen on validation."
    )


def _show_table(table: SuiteTable) -> list[Block]:
    blocks = [Block(table.title, table=Table(table.columns, table.rows), caption=table.caption)]
    return [*blocks, Block(text=table.footnotes)] if table.footnotes else blocks


def _build_tiles(suite: Suite) -> list[Tile]:
    """The first method, by the strongest protocol there is; of several tasks the first."""
    what = "macro AUROC"
    if "tasks" in suite.index:
        name = next(iter(suite.index["tasks"]), None)
        if name is None:
            return []
        suite, what = take_task(suite, name), f"AUROC in {name}"
    whole, method = summarise(suite), suite.names[0]
    part = name_part(whole)
    for kind in (FINETUNE, PROBE):
        if result := suite.methods.get((kind, method, None)):
            found = find_estimate(result, "auroc", "macro", part)
            if found.value is not None:
                where = ", mean of archives" if whole == MEAN else ""
                return [Tile(f"{found.value:.3f}", f"{what} of {method}, {suite.title(kind)}{where}")]
    return []
