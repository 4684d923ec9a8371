"""Rescued cases of `hilum evaluate pacx`: of whom, how many each way, what is stored of them, and what a page shows."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from shown import write_run

from hilum.cache import Cache
from hilum.config import CropConfig, dump_config
from hilum.evaluate.distilled.rollout import Reader, roll_out_views
from hilum.evaluate.paper.entrants import find_entrants
from hilum.evaluate.paper.index import CASES, read_suite
from hilum.evaluate.paper.pacx import distillation
from hilum.evaluate.paper.pacx import suite as pacx
from hilum.evaluate.paper.pacx.rescued import TITLES, pair_runs
from hilum.evaluate.paper.tables import build_tables
from hilum.evaluate.result import Result
from hilum.evaluate.scored import read_scored
from hilum.model.weights import load_encoder
from hilum.recipes import build_recipe
from hilum.report.evaluation_section import read_cases
from hilum.report.page import write_report

SETTINGS = {"fractions": (1.0,), "min_positives": 3, "num_resamples": 20, "precision": "32-true", "progress": False}


def write_configured(folder: Path, cache: Cache, weights: int, seed: int, crop: str = "center") -> Path:
    """A run with a record of its seed and crop."""
    run, config = write_run(folder, cache, weights), build_recipe("mae", "hilum", "tiny")
    config = replace(config, seed=seed, data=replace(config.data, evaluation_crop=crop))
    (run / "config.json").write_text(dump_config(config))
    return run


def find_by_hand(folder: Path, first: str, second: str) -> dict[str, tuple[list[int], int, int]]:
    """Finding -> rescued studies in order, how many are lost, and positives, from the probes' scores."""
    cells = json.loads((folder / "suite.json").read_text())["cells"]
    one, other = (
        read_scored((folder / cell["path"]).parent)[1]
        for name in (first, second) for cell in cells if (cell["kind"], cell["encoder"]) == ("probe", name)
    )  # fmt: skip
    found = {}
    for i, finding in enumerate(one.names):
        present = [place for place in range(len(one.row)) if one.target[place, i] == 1]
        said = {place: (one.decision[0, place, i], other.decision[0, place, i]) for place in present}
        rescued = [int(one.row[place]) for place in present if said[place] == (0, 1)]
        found[finding] = rescued, sum(said[place] == (1, 0) for place in present), len(present)
    return found


def check_cases(folder: Path, cache: Cache, encoders: dict[str, Path], result: Result, masked: bool) -> None:
    """The first study of each finding with a rescued one, then the second: its first image, and both rollouts of it."""
    rescued = {name: found[0] for name, found in find_by_hand(folder, *encoders).items() if found[0]}
    assert len(rescued) == 2, "two findings of the toy can be learned"
    (a, rows), (b, others) = rescued.items()
    turns = [(a, rows[0]), (b, next(row for row in others if row != rows[0]))]
    (entry,) = (one for one in read_suite(folder).index["methods"] if one["kind"] == "rescued")
    cases = read_cases((folder / entry["path"]).parent / CASES)
    assert 2 <= len(cases) == min(4, len({*rows, *others}))
    reader = {title: name for name, title in TITLES.items()}[result.protocol["reader"]]
    for case, (finding, row) in zip(cases, turns, strict=False):
        view = int(cache.studies["first_view"][row])
        assert case.title == finding
        inside = case.image.reshape(8, 4, 8, 4)[:, 1:3, :, 1:3].mean(axis=(1, 3))  # the toy's squares, not their edges
        np.testing.assert_allclose(inside, cache.image(view)[4::8, 4::8] / 255, atol=0.005)
        for path, shares in zip(encoders.values(), (case.first, case.second), strict=True):
            np.testing.assert_allclose(shares, roll_out(cache, path, view, reader), rtol=1e-4)
    assert {name for case in cases for name in case.outlines} == ({"left"} if masked else set())
    for case in cases if masked else ():
        assert case.outlines["left"][:, :16].all()
        assert not case.outlines["left"][:, 16:].any()


def roll_out(cache: Cache, path: Path, view: int, reader: Reader) -> np.ndarray:
    encoder = load_encoder(path / "weights.safetensors")[0].eval()
    how = {"mean": cache.mean, "std": cache.std, "crop": CropConfig(mode="center"), "reader": reader}
    return roll_out_views(cache, encoder, np.array([view]), **how)[0]


def test_rescued_cases_are_drawn_with_and_without_masks_beside_how_many_were_lost(
    shown_cache: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = {name: write_run(tmp_path / name, shown_cache, seed) for name, seed in (("mae", 1), ("other", 2))}
    words, out = [f"{name}={path}" for name, path in runs.items()], tmp_path / "out"
    left = np.arange(64)[None].repeat(64, 0) < 32
    source = distillation.MaskSource(
        ("left",), lambda: ((view, {"left": left}) for view in range(len(shown_cache.views))), "toy"
    )
    for masks in (None, source):
        monkeypatch.setattr(pacx, "find_masks", lambda *_, found=masks: found)
        pacx.run_pacx(shown_cache.path, words, out, parts=("probe", "rollout"), **SETTINGS)
        suite = read_suite(out)
        result = suite.methods["rescued", "other", None]
        for finding, (rescued, lost, positives) in find_by_hand(out, "mae", "other").items():
            found = [(e.metric, e.value, e.positives) for e in result.estimates if e.of == finding]
            expected = [("rescued", len(rescued), positives), ("lost", lost, positives)]
            assert found == (expected if finding in ("Edema", "Fracture") else [])
        check_cases(out, shown_cache, runs, result, masked=masks is not None)
    assert len(list(out.rglob(CASES))) == 2, "masks make other cases of the same studies"
    (table,) = (one for one in build_tables(suite) if one.title == "Rescued and lost")
    assert [row[0] for row in table.rows] == ["other, Edema", "other, Fracture"]
    assert table.rows[0][1:] == [f"{e.value:.0f}" for e in result.estimates[:2]] + [str(result.estimates[0].positives)]
    write_report([out], tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert page.count("Missed by mae, found by other") == 1
    assert "Attention rollout of mae and other on" in page
    assert "the table Rescued and lost says how many went the other way" in page


def test_encoders_that_see_other_parts_of_an_image_are_counted_and_not_drawn(
    shown_cache: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pacx, "find_masks", lambda *_: None)
    runs = [
        f"mae={write_run(tmp_path / 'mae', shown_cache, 1)}",
        f"other={write_configured(tmp_path / 'other', shown_cache, 2, 0, 'squash')}",
    ]
    out = tmp_path / "out"
    pacx.run_pacx(shown_cache.path, runs, out, parts=("probe", "rollout"), **SETTINGS)
    (table,) = (one for one in build_tables(read_suite(out)) if one.title == "Rescued and lost")
    assert table.rows
    assert table.footnotes == [
        "other: no case is drawn: the encoders are shown other parts of an image (center and squash)."
    ]
    assert not list(out.rglob(CASES))
    released = tmp_path / "released"
    pacx.run_pacx(shown_cache.path, runs, released, parts=("probe", "rollout"), head="released", **SETTINGS)
    assert list(released.rglob(CASES)), "both probes saw the whole image, squashed"


def test_runs_of_one_seed_are_paired_and_else_the_first_of_those_that_roll_out(
    shown_cache: Cache, tmp_path: Path
) -> None:
    weights = itertools.count(1)

    def write(*seeds: int) -> str:
        places = [(next(weights), seed) for seed in seeds]
        return ",".join(str(write_configured(tmp_path / f"run{i}", shown_cache, i, seed)) for i, seed in places)

    def pair(*words: str) -> list[tuple[str, str]]:
        return [(one.name, other.name) for one, other in pair_runs(find_entrants(words, beside_random=False))]

    first, shared, apart = f"mae={write(3, 4)}", f"pacx={write(5, 4, 3)}", f"apart={write(8, 9)}"
    unknown = f"unknown={write_run(tmp_path / 'plain', shown_cache, 0)}"
    found = pair(first, shared, apart, unknown, "resnet=timm:test_resnet=random")
    assert found == [
        ("mae: run1", "pacx: run5"), ("mae: run1", "apart: run6"), ("mae: run1", "unknown"),
    ]  # fmt: skip
    assert pair("resnet=timm:test_resnet=random", first) == []
    assert pair(first) == []
