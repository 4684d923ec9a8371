"""Outcomes from a study table, and the whole of `hilum probe --task risk` to its page."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import shown
from PIL import Image

from hilum.breasts import BREAST, BREASTS
from hilum.cache import Cache
from hilum.cache.writer import build_cache
from hilum.cli import main
from hilum.errors import UserError
from hilum.evaluate.result import read_result
from hilum.evaluate.risk.arms import RiskArm
from hilum.evaluate.risk.concordance import UNO_WEIGHTS, c_index_uno, weigh_by_censoring
from hilum.evaluate.risk.console import print_risk
from hilum.evaluate.risk.curves import split_evenly
from hilum.evaluate.risk.estimates import Reference
from hilum.evaluate.risk.follow_up import find_earlier_exams, read_follow_up
from hilum.evaluate.risk.kaplan_meier import fit_censoring
from hilum.evaluate.risk.risk_report import check_cancers, report_risk, run_risk_report
from hilum.evaluate.risk.scoring import RiskPlan, find_base, note_support
from hilum.report.page import write_report
from hilum.study import build_studies, write_studies

SIZE = 64


def draw(shade: int, seed: int) -> Image.Image:
    """Noise around a grey."""
    noise = np.random.default_rng(seed).normal(shade, 20, (SIZE, SIZE))
    return Image.fromarray(np.clip(noise, 0, 255).astype(np.uint8))


def write_exams(folder: Path, exams: list[dict]) -> Cache:
    """The cache of exams of one square image each: `breasts` are the fields of left and right, `shade` its grey."""
    rows = []
    for number, exam in enumerate(exams):
        draw(exam.pop("shade", 90), 2 * number).save(folder / f"{number}.png")
        breasts = [
            dict.fromkeys(BREAST.to_schema()) | {"laterality": side, "labels": []} | said
            for side, said in zip(("left", "right"), exam.pop("breasts"), strict=False)
        ]
        view = {"path": f"{number}.png", "kind": "cc", "position": "CC", "laterality": "left"}
        right = view | {"laterality": "right", "path": f"{number}.png"}
        rows.append({"dataset": "toy", "study": f"s{number:03d}", "root": str(folder), BREASTS: breasts} | exam)
        rows[-1]["views"] = [view] if len(breasts) < 2 else [view, right | {"path": f"{number}r.png"}]
        if len(breasts) > 1:
            draw(91, 2 * number + 1).save(folder / f"{number}r.png")
    write_studies(build_studies(rows), folder / "studies.parquet")
    build_cache(
        folder / "studies.parquet", folder / "cache", workers=0, short_side=SIZE, bits=8, policy="voi-1", progress=False
    )
    return Cache.open(folder / "cache")


def test_an_exam_is_its_worse_breast_and_exams_that_tell_nothing_are_counted(tmp_path: Path) -> None:
    free, none = {"years_to_last_followup": 6.0}, {}
    exams = [
        {"patient": "a", "day": 0.0, "breasts": [{"years_to_cancer": 2.5, "years_to_last_followup": 3.0}, free]},
        {"patient": "a", "day": 1000.0, "breasts": [free, free]},  # 2.7 years later: after the diagnosis
        {"patient": "a", "day": 300.0, "breasts": [{"years_to_cancer": 1.68}, free]},
        {"patient": "b", "day": 0.0, "breasts": [{"years_to_last_followup": 4.0}, free]},  # free for 4, not for 6
        {"patient": "c", "breasts": [none, none]},
        {"patient": "d", "breasts": [{"cancer": 1, **free}, free]},
        {"patient": "e", "breasts": [{"assessment": 6, "years_to_cancer": 0.0}, free]},
        {"patient": "f", "age": 61.0, "breasts": [{"density": "b", **free}, {"density": "d", **free}]},
        {"patient": "g", "breasts": [free, none]},  # the cancer may have been in the other breast
    ]
    follow_up = read_follow_up(write_exams(tmp_path, [{"split": "train", "age": 50.0, **exam} for exam in exams]))
    np.testing.assert_allclose(follow_up.years, [2.5, np.nan, 1.68, 4, np.nan, np.nan, np.nan, 6, np.nan], rtol=1e-6)
    assert follow_up.event.tolist() == [True, False, True] + [False] * 6
    assert {reason: num for reason, num in follow_up.excluded.items() if num} == {
        "with a known cancer (BI-RADS 6)": 1,
        "with a cancer of unknown date": 1,
        "after a diagnosis": 1,
        "without follow-up": 2,
    }
    np.testing.assert_array_equal(follow_up.task.target[0], [0, 0, 1, 1, 1])
    assert follow_up.table_names == ("age",)  # one density is known: it tells nobody from another
    earlier = find_earlier_exams(follow_up, 2)
    assert [rows.tolist() for rows in earlier[:4]] == [[], [2, 0], [0], []]
    assert find_earlier_exams(follow_up, 1)[1].tolist() == [2]


def test_days_of_two_archives_or_patient_ids_are_not_compared_and_archives_left_out_are_not_read(
    tmp_path: Path,
) -> None:
    """Days count from the first exam of a patient in her archive; one group is one person with two ids."""
    exams = [
        {"patient": "a", "day": 0.0, "dataset": "one", "breasts": [{"years_to_cancer": 1.0}]},
        {"patient": "a", "day": 900.0, "dataset": "two", "breasts": [{"years_to_last_followup": 3.0}]},
        {"patient": "a", "day": 950.0, "dataset": "two", "breasts": [{"years_to_last_followup": 3.0}]},
        {"patient": "b", "day": 900.0, "dataset": "one", "breasts": [{"years_to_last_followup": 3.0}]},
    ]
    cache = write_exams(tmp_path, [{"split": "train", "group": "a", **exam} for exam in exams])
    follow_up = read_follow_up(cache)
    assert [rows.tolist() for rows in find_earlier_exams(follow_up, 2)] == [[], [], [1], []]
    assert follow_up.excluded["after a diagnosis"] == 0
    left = read_follow_up(cache, ["two"])
    assert [rows.tolist() for rows in find_earlier_exams(left, 2)] == [[], [], [], []]


def test_without_follow_up_there_is_no_risk(tmp_path: Path) -> None:
    cache = write_exams(tmp_path, [{"patient": "a", "split": "train", "breasts": [{}, {}]}])
    with pytest.raises(UserError, match="of no exam is known when cancer came or follow-up ended"):
        read_follow_up(cache)


def test_parts_are_even_and_tear_no_ties() -> None:
    assert split_evenly(np.array([5.0, 1, 2, 3, 4, 6]), 3).tolist() == [2, 0, 0, 1, 1, 2]
    assert split_evenly(np.array([1.0, 1, 1, 1, 1, 9]), 3).tolist() == [1, 1, 1, 1, 1, 2]
    assert set(split_evenly(np.zeros(4), 3).tolist()) == {1}


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Cache:
    """Sixty women, two exams of some; the brighter the image, the sooner her cancer."""
    rng, exams = np.random.default_rng(0), []
    for woman in range(60):
        risk = rng.normal()
        came, left = rng.exponential(8 * np.exp(-1.5 * risk)) + 0.05, rng.uniform(2, 9)
        for day in (0.0, 500.0)[: 1 + woman % 2]:
            came_then, left_then = came + (500 - day) / 365.25, left + (500 - day) / 365.25
            said = {"years_to_last_followup": min(came_then, left_then), "density": "abcd"[int(rng.integers(4))]}
            if came <= left:
                said["years_to_cancer"] = came_then
            exams.append({
                "patient": f"p{woman}", "day": day, "age": float(rng.integers(45, 75)), "breasts": [said],
                "split": ("train", "val", "test")[woman % 3], "shade": int(np.clip(110 + 40 * risk, 5, 250)),
            })  # fmt: skip
    return write_exams(tmp_path_factory.mktemp("risk"), exams)


def test_the_command_scores_an_encoder_beside_age_and_density(
    cache: Cache, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hilum.evaluate.risk.fit._STEPS", 40)
    monkeypatch.setattr("hilum.evaluate.risk.curves._RESAMPLES", 20)
    out = tmp_path / "risk"
    monkeypatch.setattr(shown, "TINY", replace(shown.TINY, num_view_kinds=5))
    shown.write_run(tmp_path / "run", cache, 0)
    how = {"representation": "mean", "earlier_exams": 1, "num_resamples": 40, "precision": "32-true"}
    run_risk_report(cache.path, [tmp_path / "run"], out, **how)
    said = capsys.readouterr().out
    for name in ("C (harrell)", "C (uno)", "C (antolini)", "C (mirai)"):
        assert name in said
    summary = json.loads((out / "risk.json").read_bytes())
    assert not summary["failed"]
    roles = [arm["role"] for arm in summary["arms"]]
    assert roles == ["encoder", "untrained", "pixels", "both", "table"]
    results = {arm["role"]: read_result(out / arm["path"]) for arm in summary["arms"]}
    pixels, table = (results[role].find("c_index_uno", "risk") for role in ("pixels", "table"))
    assert pixels.value is not None
    assert table.value is not None
    assert pixels.value > 0.65 > table.value  # brightness tells, age and density were dealt
    assert len(summary["differences"]) == 5
    first = summary["arms"][0]
    for curve in first["groups"]:
        observed = [value for value in curve["observed"] if value is not None]
        assert observed == sorted(observed)
    stored = np.load(out / Path(first["path"]).parent / "risks.npz")
    assert (np.diff(stored["risk"], axis=1) >= 0).all()
    assert (np.diff(stored["recalibrated"], axis=1) >= 0).all()
    assert not np.array_equal(stored["risk"], stored["recalibrated"])
    protocol = results["encoder"].protocol
    assert len(protocol["recalibration"]["slope"]) == 5
    assert protocol["uno_until"] == 5
    page = tmp_path / "report.html"
    write_report([out], page)
    text = page.read_text("utf-8")
    for heading in (
        "Cancers by group of risk",
        "Do its risks hold?",
        "Detection or risk",
        "C (antolini)",
        "recalibrated",
    ):
        assert heading in text
    (out / "risk.json").write_text(json.dumps(summary | {"format": "hilum-risk/1"}))
    with pytest.raises(UserError, match="of the format hilum-risk/1, this Hilum reads hilum-risk/2"):
        write_report([out], page)
    with pytest.raises(UserError, match="one part of an evaluation of risk"):
        write_report([out / Path(first["path"]).parent], page)


def test_mirais_mask_and_libraries_weights_are_asked_for_and_named(
    cache: Cache, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of age and density alone: the mask lowers later risks, and the weights are those of the scores."""
    monkeypatch.setattr("hilum.evaluate.risk.fit._STEPS", 60)
    monkeypatch.setattr("hilum.evaluate.risk.fit._LOOK", 20)
    monkeypatch.setattr("hilum.evaluate.risk.curves._RESAMPLES", 2)
    follow_up = read_follow_up(cache)
    said, risks = {}, {}
    for mask, side, name in ((False, "before", "C (uno)"), (True, "at", "C (uno, at)")):
        plan = RiskPlan(cache, follow_up, ("mean",), 0, {}, 2, mask_after_event=mask, uno_weight=side)
        path = report_risk(plan, [RiskArm("age", "table", None, True)], tmp_path / side, progress=False)
        print_risk(path, cache.path, tmp_path)
        printed = capsys.readouterr().out
        assert f" {name} " in printed
        assert f"Weights of Uno's C: {UNO_WEIGHTS[side]}" in printed
        (arm,) = json.loads(path.read_bytes())["arms"]
        said[mask] = read_result(path.parent / arm["path"])
        assert (said[mask].protocol["mask_after_event"], said[mask].protocol["uno_weight"]) == (mask, side)
        stored = np.load(path.parent / Path(arm["path"]).parent / "risks.npz")
        train = follow_up.rows("train")
        censoring = fit_censoring(follow_up.years[train], follow_up.event[train])
        weight = weigh_by_censoring(stored["years"], censoring, 5.0, side)
        by_hand = c_index_uno(stored["risk"][:, -1], stored["years"], stored["event"], weight)
        assert said[mask].find("c_index_uno", "risk").value == pytest.approx(by_hand, abs=1e-9)
        risks[mask] = stored["risk"][:, -1].mean()
    assert risks[True] < risks[False]  # without the known ones of later years
    assert said[True].counts == said[False].counts
    write_report([tmp_path / "at"], tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text("utf-8")
    for words in ("C (uno, at)", UNO_WEIGHTS["at"], "years after a cancer were left out"):
        assert words in page


def test_flags_that_risk_does_not_have_are_refused(cache: Cache, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["probe", "timm:test_byobnet=random", "--data", str(cache.path), "--out", "x"]
    assert main([*words, "--task", "risk", "--crossval"]) != 0
    assert "--crossval has no effect on --task risk" in capsys.readouterr().err
    assert main([*words, "--earlier-exams", "2"]) != 0
    assert "--earlier-exams has no effect on other tasks than risk" in capsys.readouterr().err
    for flag, value in (("--hazard", "cox"), ("--sides", "apart")):
        assert main([*words, flag, value]) != 0
        assert f"{flag} has no effect on other tasks than risk" in capsys.readouterr().err
    assert main([*words, "--mask-after-event"]) != 0
    assert "--mask-after-event has no effect on other tasks than risk" in capsys.readouterr().err
    assert main([*words, "--uno-weight", "at"]) != 0
    assert "--uno-weight has no effect on other tasks than risk" in capsys.readouterr().err


def test_training_that_ends_early_is_said_and_starts_from_what_it_knows() -> None:
    """One of a hundred has cancer within a year, and nobody is seen after 1.7 years."""
    years, event = np.append(np.full(99, 1.7), 0.5), np.append(np.zeros(99, bool), True)
    assert find_base(years, event) == pytest.approx([0.01] * 5)
    (note,) = note_support(Reference.fit(years, event))
    assert note.startswith("No training exam is followed for more than 1.7 years")
    assert note_support(Reference.fit(np.array([6.0]), np.array([False]))) == ()


def test_few_cancers_are_refused_before_any_image_is_read(tmp_path: Path) -> None:
    exams = [{"patient": f"{i}", "split": "test", "breasts": [{"years_to_last_followup": 3.0}]} for i in range(3)]
    with pytest.raises(UserError, match="The training split has 0 women with cancer within 5 years"):
        check_cancers(read_follow_up(write_exams(tmp_path, exams)))
