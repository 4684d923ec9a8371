"""The whole road on the embedded phantom, as a list of the commands a user would type.

Every step resumes: running the demo again continues where it was stopped and repeats nothing that is finished.
"""

from __future__ import annotations

import json
import shlex
import time
from pathlib import Path

from rich.console import Console
from rich.rule import Rule

from .errors import UserError

# Small enough for two cores and a few minutes, large enough that learning shows: phantom images of 128 px, the smallest
# encoder on 96 px in patches of 8, and many small steps, by Muon (LOG.md). Ids of phantoms are kept: hashed with a new
# salt every time, they would fall into other splits every time.
IMAGE_SIZE = 128
SETTINGS = (
    "--size nano --encoder.image-size 96 --encoder.patch-size 8 --mask.ratio 0.85 --optim.matrices muon "
    "--optim.lr 3e-3 --data.views-per-step 64 --data.crop.min-scale 0.7 --run.meter-every 100"
)
_TITLE = "Hilum demo: studies that teach an encoder"


def run_demo(out: Path, *, num_studies: int, steps: int, workers: int) -> int:
    """Phantom, ingest, cache, pretrain, probe, report; returns an exit code.

    Args:
        out: folder for everything; `report.html` and `result.json` in it are the end.
        num_studies: phantom studies.
        steps: optimiser steps of pretraining.
        workers: processes for images.
    """
    from .cli import main  # the demo types the commands of the command line, which imports the demo

    archive, cache, run, probe = out / "archive", out / "cache", out / "mvmae", out / "probe"
    resume = " --resume" if (run / "config.json").exists() else ""
    here, archived, cached, trained, probed = (shlex.quote(str(path)) for path in (out, archive, cache, run, probe))
    commands = (
        f"phantom --out {archived} --studies {num_studies} --size {IMAGE_SIZE} --workers {workers}",
        f"ingest table {archived}/studies.csv --out {here}/studies.parquet --dataset phantom --keep-ids --id-space ''",
        f"cache {here}/studies.parquet --out {cached} --workers {workers} --short-side 128 --fractions 0.5 0.1 0.4",
        f"pretrain mvmae --data {cached} --out {trained} {SETTINGS} --optim.steps {steps}{resume}",
        f"probe {trained} --data {cached} --out {probed} --seeds 3",
        f"report {cached} {trained} {probed} --out {here}/report.html --title '{_TITLE}'",
    )
    console = Console(stderr=True)
    begin = time.monotonic()
    for number, command in enumerate(commands, start=1):
        console.print(Rule(f"{number} of {len(commands)}", align="left", style="dim"))
        console.print(f"[bold]hilum {command}[/]", soft_wrap=True, highlight=False)
        code = main(shlex.split(command))
        if code not in (0, 3):
            return code
    _say_result(out, probe, console, time.monotonic() - begin)
    return 0


def _say_result(out: Path, probe: Path, console: Console, seconds: float) -> None:
    """Copy the subject's result beside the report, and say in one sentence what came out."""
    summary = json.loads((probe / "probe.json").read_bytes())
    (out / "result.json").write_text(json.dumps(summary["arms"][0]["result"], indent=2) + "\n")
    differences = {entry["result"]["protocol"]["second"]: entry["result"] for entry in summary["differences"]}
    console.print(Rule(f"done in {seconds / 60:.1f} minutes", align="left", style="dim"))
    for control in ("untrained", "pixels 32x32"):
        estimate = next(e for e in differences[control]["estimates"] if (e["metric"], e["of"]) == ("auroc", "macro"))
        if estimate["value"] is None:
            raise UserError(f"{probe}: no finding had enough positives to score; use more --studies.")
        console.print(
            f"Macro AUROC of the pretrained encoder minus {control}: {estimate['value']:+.3f} "
            f"(95 % interval {estimate['low']:+.3f} to {estimate['high']:+.3f})."
        )
    console.print(f"Report: {out}/report.html")
