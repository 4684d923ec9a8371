"""What a path holds that a report can draw; asked before anything that draws is imported."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from hilum.errors import UserError
from hilum.model.places import TEACHER_FORMATS, read_format

Kind = Literal["archive", "evaluation", "probe", "heatmap", "risk", "result", "training", "table"]
# By the file that marks a folder; the first that is there counts.
_MARKS: dict[str, Kind] = {
    "index.json": "archive",
    "suite.json": "evaluation",
    "probe.json": "probe",
    "maps.parquet": "heatmap",
    "risk.json": "risk",
    "result.json": "result",
    "metrics.jsonl": "training",
}


def find_kind(path: Path) -> Kind:
    """What there is to draw of a path.

    Raises:
        UserError: nothing.
    """
    for name, kind in _MARKS.items():
        if (path / name).exists():
            if kind == "training" and (teacher := TEACHER_FORMATS.get(read_format(path / "weights.safetensors"))):
                raise UserError(f"{path}: a run of {teacher}: a report draws those of images. See its {name}.")
            return kind
    if path.suffix == ".parquet" and path.is_file():
        return "table"
    found = "nothing to draw" if path.exists() else "there is no such file or folder, so nothing to draw"
    raise UserError(
        f"{path}: {found}. Expected a cache (index.json), a run (metrics.jsonl), a probe (probe.json or risk.json), an "
        "evaluation (suite.json), the folder of a fine-tuning, of zero-shot scores or of heat maps (result.json), or a "
        "study table (.parquet)."
    )
