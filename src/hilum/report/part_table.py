"""An evaluation by parts of its test rows: sexes, ages, institutions, kinds and numbers of views, fusions of them."""

from __future__ import annotations

from typing import Any

from hilum.evaluate.task import UNITS

from .blocks import Block, Table


def tabulate_parts(arms: list[dict[str, Any]]) -> list[Block]:
    """The macro AUROC of every encoder in each part that can be scored; nothing where none can."""
    encoders = [arm for arm in arms if arm["role"] == "encoder"]
    estimates = [entry for entry in encoders[0]["result"]["estimates"] if entry["metric"] == "auroc"]
    names = list(dict.fromkeys(entry["slice"] for entry in estimates if entry["slice"] != "all"))
    rows, hidden = [], []
    for name in names:
        found = [_find_macro(arm["result"], name) for arm in encoders]
        if all(entry is None or entry["value"] is None for entry in found):
            hidden.append(_say(name))
            continue
        sizes = [entry["num"] for entry in estimates if entry["slice"] == name and entry["of"] != "macro"]
        rows.append([_say(name), f"{max(sizes):,}" if sizes else "", *(format_estimate(entry) for entry in found)])
    if not rows:
        return []
    unit = UNITS[encoders[0]["result"]["protocol"]["unit"]]
    caption = "Macro AUROC of parts of the test data; which findings enter the mean may differ from part to part."
    if hidden:
        caption += f" Too few for a score: {', '.join(hidden)}."
    columns = ["", unit, *(arm["name"] for arm in encoders)]
    return [Block("By part", table=Table(columns, rows), caption=caption)]


def _find_macro(result: dict[str, Any], part: str) -> dict[str, Any] | None:
    wanted = ("auroc", "macro", part)
    return next((one for one in result["estimates"] if (one["metric"], one["of"], one["slice"]) == wanted), None)


def _say(part: str) -> str:
    return part.replace("=", ": ", 1)


def format_estimate(entry: dict[str, Any] | None) -> str:
    """A number over its interval, or a dash."""
    if entry is None or entry["value"] is None:
        return "-"
    interval = "" if entry["low"] is None else f"\n{entry['low']:.3f} to {entry['high']:.3f}"
    return f"{entry['value']:.3f}{interval}"
