"""`hilum evaluate mvmlm`, risk: every method with and without the clinical table, paired on the same women."""

from __future__ import annotations

import io
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import numpy as np
import pytest

from hilum.cache import Cache
from hilum.commands.paper import run_evaluate
from hilum.errors import UserError
from hilum.evaluate.paper.index import RISK, RISK_WITH_TABLE, read_suite
from hilum.evaluate.paper.mvmlm import suite as mvmlm
from hilum.evaluate.paper.mvmlm.risk_tables import tabulate_risk
from hilum.evaluate.result import read_result

SETTINGS = {"parts": ("risk",), "num_seeds": 2, "num_resamples": 20, "precision": "32-true", "paper": True}


@pytest.fixture(scope="module")
def folder(exam_cache: Cache, exam_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("suite")
    with (
        (out / "said.txt").open("w") as said, redirect_stdout(said), redirect_stderr(io.StringIO()),
        pytest.MonkeyPatch.context() as patch,
    ):  # fmt: skip
        patch.setattr("hilum.evaluate.risk.fit._STEPS", 5)
        patch.setattr("hilum.evaluate.risk.fit.DECAYS", (0.1,))
        patch.setattr("hilum.evaluate.risk.scoring.DECAYS", (0.1,))
        patch.setattr("hilum.evaluate.risk.curves._RESAMPLES", 20)
        run_evaluate(exam_cache.path, [f"mv_clip={exam_run}"], out, suite="mvmlm", **SETTINGS)
    return out


def count_pairs(risk: np.ndarray, years: np.ndarray, event: np.ndarray) -> float:
    """Harrell's C-index, pair by pair."""
    right, pairs = 0.0, 0
    for i in range(len(risk)):
        for j in range(len(risk)):
            if event[i] and years[i] < years[j]:
                pairs += 1
                right += float(risk[i] > risk[j]) + 0.5 * float(risk[i] == risk[j])
    return right / pairs


def test_every_method_has_its_risks_and_the_table_its_own(folder: Path) -> None:
    suite = read_suite(folder)
    assert set(suite.methods) == {
        (RISK, "mv_clip", None), (RISK, "supervised", None), (RISK, "density", None),
        (RISK_WITH_TABLE, "mv_clip", None), (RISK_WITH_TABLE, "supervised", None),
    }  # fmt: skip
    assert set(suite.differences) == {
        (RISK, "supervised", "mv_clip"), (RISK, "density", "mv_clip"), (RISK_WITH_TABLE, "supervised", "mv_clip"),
        (RISK_WITH_TABLE, "mv_clip", "density"), (RISK_WITH_TABLE, "supervised", "density"),
    }  # fmt: skip
    assert [one["method"] for one in suite.index["encoders"]] == ["mv_clip", "supervised", "supervised"]
    values = {}
    for cell in suite.index["cells"]:
        found = np.load((folder / cell["path"]).parent / "risks.npz")
        value = read_result(folder / cell["path"]).find("c_index_harrell", "risk").value
        assert value == pytest.approx(count_pairs(found["risk"][:, -1], found["years"], found["event"]))
        values.setdefault((cell["kind"], cell["method"]), []).append(value)
    assert [len(one) for one in values.values()] == [1, 1, 2, 2, 1]  # two networks
    for (kind, method), each in values.items():
        assert suite.methods[kind, method, None].find("c_index_harrell", "risk").value == pytest.approx(np.mean(each))
    added = suite.differences[RISK_WITH_TABLE, "supervised", "density"].find("c_index_harrell", "risk").value
    expected = np.mean(values[RISK_WITH_TABLE, "supervised"]) - values[RISK, "density"][0]
    assert added == pytest.approx(expected)


def test_tables_stand_in_console_and_file_with_the_published_numbers_beside(folder: Path) -> None:
    suite = read_suite(folder)
    own, windows, differences = tabulate_risk(suite)
    assert own.columns == [
        "", "test exams", "C (harrell)", "C (uno)", "AUC, 2 years", "AUC, 5 years", "AUC, 3 years",
        "C-index, published",
    ]  # fmt: skip
    rows = {tuple(row[:2]): row[2:] for row in own.rows}
    assert [title for title, _ in rows][:5] == [
        "mv_clip", "mv_clip, with density", "supervised", "supervised, with density", "density",
    ]  # fmt: skip
    assert ("density", "5\n3 cancers") in rows
    assert rows["MV-MLM (published) [a] [b]", "private"] == ["-", "-", "0.76", "0.69", "-", "0.73"]
    assert rows["BREST (published) [e]", "BREST's, 7,596 women"] == ["-", "-", "-", "-", "0.727", "-"]
    assert len(windows.rows) == 3 * 5
    # Of cancers after 0.5, 2.5 and 4.5 years the first is within a year.
    sizes = {row[0].partition(", after ")[2]: row[1] for row in windows.rows if row[0].startswith("density")}
    assert sizes == {"90 days": "5\n3 cancers", "180 days": "5\n3 cancers", "1 year": "4\n2 cancers"}
    assert [row[0] for row in differences.rows] == [
        "supervised minus mv_clip", "supervised, with density minus mv_clip, with density",
        "density minus mv_clip", "mv_clip, with density minus density", "supervised, with density minus density",
    ]  # fmt: skip
    said, written = (folder / "said.txt").read_text(), (folder / "tables.md").read_text()
    assert all(one.title in said and f"## {one.title}" in written for one in (own, windows, differences))


def test_without_follow_up_it_is_said(
    exam_cache: Cache, exam_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = Cache.table
    monkeypatch.setattr(Cache, "table", lambda cache: table(cache).drop("breasts"))
    with pytest.raises(UserError, match=r"nothing for --protocols risk: No risk: .*risk needs mammograms"):
        mvmlm.run_mvmlm(exam_cache.path, [str(exam_run)], tmp_path, parts=("risk",), progress=False)
