"""The walk-through for one's own mammograms, followed to the letter, but with enough women for a risk.

A long trial: most of its time is the phantom's."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.soak
PAGE = Path(__file__).parents[1] / "docs" / "own-mammograms.md"
BLOCK = re.compile(r"^```(python|csv|)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
NUM_WOMEN = 240  # with 40, as on the page, validation has too few cancers for a risk


def test_every_command_of_the_page_works(tmp_path: Path) -> None:
    blocks = BLOCK.findall(PAGE.read_text())
    commands = [line for kind, text in blocks if not kind for line in text.replace("\\\n", " ").splitlines()]
    (script,) = (text for kind, text in blocks if kind == "python")
    (tmp_path / "make_csv.py").write_text(script)
    assert commands[0].startswith("hilum phantom --breast --patients 40 ")
    run(commands[0].replace("--patients 40", f"--patients {NUM_WOMEN} --size 320"), tmp_path)
    subprocess.run([sys.executable, "make_csv.py"], cwd=tmp_path, check=True)
    for command in commands[1:]:
        run(command, tmp_path)
    risk = json.loads((tmp_path / "runs/breasts/probe-risk/risk.json").read_bytes())
    assert risk["arms"]
    assert not risk["failed"]
    assert (tmp_path / "report.html").stat().st_size > 100_000


def run(command: str, folder: Path) -> None:
    program, *words = command.split()
    assert program == "hilum", command
    subprocess.run([sys.executable, "-m", "hilum", *words], cwd=folder, check=True)
