"""`hilum evaluate mvmlm`, zero-shot and heat maps: every method says what the single commands say of its runs."""

from __future__ import annotations

import io
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from hilum.cache import Cache
from hilum.commands.paper import run_evaluate
from hilum.errors import UserError
from hilum.evaluate.paper.entrants import find_entrants
from hilum.evaluate.paper.index import HEAT_MAPS, ZERO_SHOT, name_task, read_suite
from hilum.evaluate.paper.mvmlm import suite as mvmlm
from hilum.evaluate.paper.mvmlm.prompt_tables import tabulate_prompts
from hilum.evaluate.paper.mvmlm.prompted import estimate_prompted, explain_no_prompts
from hilum.evaluate.prompted.heat_report import run_heatmap
from hilum.evaluate.prompted.zero_shot import run_zero_shot
from hilum.evaluate.result import read_result
from hilum.evaluate.scoring.scores import Scores, read_scores
from hilum.text.prompts import Prompts

PARTS = ("zeroshot", "heatmap")
SETTINGS = {"parts": PARTS, "num_seeds": 1, "num_resamples": 20, "min_positives": 2, "precision": "32-true"}
MASS = name_task("breast:mass", ZERO_SHOT)


@pytest.fixture(scope="module")
def folder(
    exam_cache: Cache, exam_run: Path, other_run: Path, third_run: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    out = tmp_path_factory.mktemp("suite")
    runs = [f"mv_clip={exam_run}", f"other={other_run},{third_run}"]
    with (out / "said.txt").open("w") as said, redirect_stdout(said), redirect_stderr(io.StringIO()):
        run_evaluate(exam_cache.path, runs, out, suite="mvmlm", **SETTINGS)
    return out


def test_zero_shot_is_what_the_command_says_of_each_run(
    folder: Path, exam_cache: Cache, exam_run: Path, other_run: Path, third_run: Path, tmp_path: Path
) -> None:
    suite = read_suite(folder)
    how = {"task": "breast:mass", "min_positives": 2, "num_resamples": 20, "precision": "32-true", "progress": False}
    found = [
        read_result(run_zero_shot(exam_cache.path, run, tmp_path / run.name, **how))
        for run in (exam_run, other_run, third_run)
    ]
    for metric in ("auroc", "average_precision"):
        single = [one.find(metric, "mass") for one in found]
        own = suite.methods[MASS, "mv_clip", None].find(metric, "mass")
        assert (own.value, own.low, own.high) == pytest.approx((single[0].value, single[0].low, single[0].high))
        mean = suite.methods[MASS, "other", None].find(metric, "mass").value
        assert mean == pytest.approx((single[1].value + single[2].value) / 2)
        difference = suite.differences[MASS, "other", "mv_clip"].find(metric, "mass").value
        assert difference == pytest.approx(mean - single[0].value)
    assert len({one.value for one in single}) > 1
    first = next(one for one in suite.index["cells"] if one["kind"] == MASS)
    own, said = (read_scores(one / "scores.npz") for one in ((folder / first["path"]).parent, tmp_path / exam_run.name))
    np.testing.assert_allclose(own.logit, said.logit, atol=1e-5)
    assert own.row.tolist() == said.row.tolist() == list(range(30, 40))


def test_heat_maps_are_what_the_command_says_of_each_run(
    folder: Path, exam_cache: Cache, exam_run: Path, tmp_path: Path
) -> None:
    suite = read_suite(folder)
    alone = run_heatmap(
        exam_cache.path, exam_run, tmp_path, findings=["mass"], num_resamples=20, precision="32-true", progress=False
    )
    said, own = read_result(alone), suite.methods[HEAT_MAPS, "mv_clip", None]
    assert [vars(one) for one in own.estimates] == [vars(one) for one in said.estimates]
    assert own.protocol["verdicts"] == said.protocol["verdicts"]
    assert own.counts["test_views"] == 3
    maps = pl.read_parquet(tmp_path / "maps.parquet").filter(pl.col("tolerance_mm") == 0)
    hit = own.find("pointing_hit", "mass", "tolerance=0 mm")
    assert hit.value == pytest.approx(maps["hit"].mean())
    above = own.find("pointing_above_chance", "mass", "tolerance=0 mm").value
    assert above == pytest.approx(maps["hit"].mean() - maps["chance"].mean())
    difference = suite.differences[HEAT_MAPS, "other", "mv_clip"].find("pointing_hit", "mass", "tolerance=0 mm")
    other = suite.methods[HEAT_MAPS, "other", None].find("pointing_hit", "mass", "tolerance=0 mm")
    assert difference.value == pytest.approx(other.value - hit.value)


def test_tables_stand_in_console_file_and_report_and_who_cannot_is_named(folder: Path) -> None:
    suite = read_suite(folder)
    tables = {table.title: table for table in tabulate_prompts(suite)}
    assert list(tables) == [
        "Zero-shot", "Zero-shot: differences to mv_clip", "Heat maps", "Heat maps: test of random weights",
        "Heat maps: differences to mv_clip",
    ]  # fmt: skip
    assert [row[:2] for row in tables["Zero-shot"].rows] == [
        ["breast:mass, mv_clip", "3 of 10"], ["breast:mass, other", "3 of 10"],
    ]  # fmt: skip
    assert [row[:2] for row in tables["Heat maps"].rows] == [["mv_clip, mass", "3"], ["other, mass", "3"]]
    verdict = suite.methods[HEAT_MAPS, "mv_clip", None].protocol["verdicts"]["mass"]
    shown = tables["Heat maps: test of random weights"].rows[0][-1]
    assert (shown == "passed") == verdict["passes"]
    said, written = " ".join((folder / "said.txt").read_text().split()), (folder / "tables.md").read_text()
    assert all(title in said and f"## {title}\n" in written for title in tables)
    for part in ("zero-shot scores", "heat maps"):
        assert f"No {part} by supervised (random weights have no text encoder)." in suite.index["notes"]


def test_the_same_again_does_nothing(
    folder: Path, exam_cache: Cache, exam_run: Path, other_run: Path, third_run: Path
) -> None:
    def note() -> dict[Path, int]:
        return {path: path.stat().st_mtime_ns for path in folder.glob("cells/unlabelled/*/result.json")}

    before, runs = note(), [f"mv_clip={exam_run}", f"other={other_run},{third_run}"]
    mvmlm.run_mvmlm(exam_cache.path, runs, folder, progress=False, **SETTINGS)
    assert note() == before


def test_what_cannot_be_asked_is_said(
    exam_cache: Cache, exam_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserError, match=r"nothing for --protocols zeroshot: .*breast:birads5 \(there are no prompts"):
        mvmlm.run_mvmlm(
            exam_cache.path, [str(exam_run)], tmp_path, parts=("zeroshot",), tasks=("breast:birads5",), progress=False
        )
    (entrant, _) = find_entrants([str(exam_run)])
    assert explain_no_prompts(None, ["mass"], entrant) is None
    alike = {"mass": Prompts(("A mass.",), ("a MASS.",))}  # to a run that reads no capitals
    monkeypatch.setattr("hilum.evaluate.paper.mvmlm.prompted.read_prompts", lambda _: alike)
    assert "as the same" in (explain_no_prompts(None, ["mass"], entrant) or "")


def test_an_auroc_of_prompts_by_hand() -> None:
    """Of two positives and two negatives one pair of four is the wrong way round; of fewer there is no number."""
    logit = np.array([[[2.0], [0.0], [1.0], [-1.0], [9.0]]])
    target = np.array([[1.0], [1.0], [0.0], [0.0], [np.nan]])
    scores = Scores(("mass",), target, logit, 0 * logit, np.arange(5), np.arange(5))
    area, precision = estimate_prompted(scores, 2, 20)
    assert (area.value, area.num, area.positives) == (0.75, 4, 2)
    assert precision.value == pytest.approx((1 + 2 / 3) / 2)
    assert estimate_prompted(scores, 3, 20)[0].reason == "too few: 2 positives of 4, 3 needed"
