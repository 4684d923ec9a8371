"""`hilum zeroshot` and `hilum heatmap`: a run that compared images with texts, asked by prompts."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from PIL import Image

from hilum.augment import prepare
from hilum.breasts import BREAST, BREAST_FINDINGS, BREASTS, FINDING
from hilum.cache import Cache
from hilum.cache.writer import build_cache
from hilum.cli import main
from hilum.config import AugmentConfig, ConvEncoderConfig, CropConfig, RunConfig
from hilum.errors import UserError
from hilum.evaluate.prompted.heat_report import run_heatmap
from hilum.evaluate.prompted.lesions import list_lesions, mark_lesions
from hilum.evaluate.prompted.zero_shot import fuse_views, run_zero_shot
from hilum.evaluate.result import read_result
from hilum.evaluate.scoring.scores import read_scores
from hilum.evaluate.subject import find_subject
from hilum.loader import iterate_studies
from hilum.model.text_weights import load_text_encoder
from hilum.recipes import build_recipe
from hilum.report.heat_figures import save_overlay
from hilum.report.page import write_report
from hilum.study import build_studies, read_studies, write_studies
from hilum.text.prompts import read_prompts
from hilum.training.pretrain import pretrain
from toy_language_model import WORDS, write_language_model
from toy_mammograms import draw_breast

NUM = 16
VIEWS = [("left", "cc"), ("left", "mlo"), ("right", "cc"), ("right", "mlo")]
BOXES = {"cc": (8.0, 14.0, 48.0, 40.0), "mlo": (8.0, 26.0, 48.0, 52.0)}  # around the disc


def write_archive(folder: Path) -> Path:
    """Studies whose left breast has a mass where the number is odd: a box in the CC view, a mask in the MLO view."""
    rng, rows, texts = np.random.default_rng(0), [], []
    for study in range(NUM):
        views, findings, has = [], [], study % 2 == 1
        for place, (side, view) in enumerate(VIEWS):
            path = f"{study}-{place}.png"
            Image.fromarray(draw_breast(4 if has and side == "left" else 0, view, rng)).save(folder / path)
            views.append({"path": path, "kind": view, "position": view.upper(), "laterality": side})
            if has and side == "left":
                found = dict.fromkeys(FINDING.to_schema()) | {"laterality": side, "kind": "mass", "path": path}
                found |= dict(zip(("top", "left", "bottom", "right"), BOXES[view], strict=True))
                if view == "mlo":
                    top, left, bottom, right = map(int, BOXES[view])
                    mask = np.zeros((112, 70), np.uint8)
                    mask[top:bottom, left:right] = 255
                    Image.fromarray(mask).save(folder / f"mask-{path}")
                    found["mask"] = f"mask-{path}"
                findings.append(found)
        blank = dict.fromkeys(BREAST.to_schema())
        breasts = [
            blank | {"laterality": side, "labels": [{"name": "mass", "state": int(has and side == "left")}]}
            for side in ("left", "right")
        ]
        texts += [
            {
                "dataset": "toy",
                "study": f"s{study}",
                "laterality": side,
                "text": f"There is {word}mass.",
                "facts": [word],
            }
            for side, word in (("left", "a " if has else "no "), ("right", "no "))
        ]
        split = ("train", "train", "val", "test")[study // 4]
        about = {"dataset": "toy", "study": f"s{study}", "patient": f"p{study}", "split": split, "root": str(folder)}
        rows.append({**about, "views": views, BREASTS: breasts, BREAST_FINDINGS: findings})
    write_studies(build_studies(rows), folder / "studies.parquet")
    pl.DataFrame(texts).write_parquet(folder / "texts.parquet")
    return folder / "studies.parquet"


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Cache:
    folder = tmp_path_factory.mktemp("prompted")
    table = write_archive(folder)
    build_cache(table, folder / "cache", workers=0, short_side=64, bits=8, policy="voi-1", progress=False)
    return Cache.open(folder / "cache")


def train(cache: Cache, out: Path, *, frozen: bool = False, tokenizer: str = "token_linear") -> Path:
    config = build_recipe("mv_clip_tr", "hilum", "nano")
    model = replace(config.text_encoder.language_model, width=32, depth=1, heads=2, hidden=64)
    texts = replace(config.text_encoder, language_model=model, width=32, projection=32, length=24, depth=1)
    bert = None
    if frozen:
        texts, bert = (
            replace(texts, tuned=False, stored=True, lower_case=False),
            write_language_model(out / "bert", [*WORDS, "There", "is", "a", "no", "No"]),
        )
    num_tokens = 8 if tokenizer == "token_linear" else ConvEncoderConfig().num_tokens
    encoder = replace(
        config.encoder, backbone="test_byobnet", image_height=96, image_width=64, width=32, projection=32, depth=1,
        stride=16, tokenizer=tokenizer, num_tokens=num_tokens,
    )  # fmt: skip
    config = replace(
        config, encoder=encoder, text_encoder=texts, optim=replace(config.optim, steps=2),
        data=replace(config.data, views_per_step=8, augment=AugmentConfig(jitter_probability=0.0)),
        run=RunConfig(precision="32-true", log_every=2, checkpoint_every=10),
    )  # fmt: skip
    pretrain(config, cache.path, out / "run", texts=cache.path.parent / "texts.parquet", language_model=bert)
    return out / "run"


@pytest.fixture(scope="module")
def run(cache: Cache, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(cache, tmp_path_factory.mktemp("trained"))


def score_slowly(cache: Cache, run: Path, texts: tuple[tuple[str, ...], tuple[str, ...]], study: int) -> list[float]:
    """Logits of the four views of a study, a text and a view at a time."""
    encoder, tokenizer, header = load_text_encoder(run)
    sides = []
    for side in texts:
        units = []
        for text in side:
            ids = [tokenizer.token_to_id("[CLS]"), *tokenizer.encode(text, add_special_tokens=False).ids]
            ids = [*ids[: encoder.config.length - 1], tokenizer.token_to_id("[SEP]")]
            with torch.no_grad():
                hidden = encoder.language_model(input_ids=torch.tensor([ids])).last_hidden_state
                tokens = encoder.enter(hidden)
                for block in encoder.blocks:
                    tokens = block(tokens)
                vector = encoder.project(encoder.norm(tokens).amax(dim=1))[0].tolist()
            units.append([one / math.hypot(*vector) for one in vector])
        mean = [sum(column) / len(units) for column in zip(*units, strict=True)]
        sides.append([one / math.hypot(*mean) for one in mean])
    image = find_subject(run).load(0)
    (batch,) = iterate_studies(cache, np.array([study]), views_per_batch=9, crop=CropConfig(mode="squash"))
    pixels = prepare(batch, size=(96, 64), mean=cache.mean, std=cache.std).pixels
    logits = []
    for view in range(4):
        with torch.no_grad():
            vector = image.encode(pixels[view : view + 1], torch.zeros(1, dtype=torch.int64)).embedding[0].tolist()
        cosine = [sum(a * b for a, b in zip(vector, side, strict=True)) / math.hypot(*vector) for side in sides]
        logits.append(header["scale"] * (cosine[0] - cosine[1]))
    return logits


# --- zero-shot scores


def test_scores_of_breasts_and_images_agree_with_a_slow_loop(cache: Cache, run: Path, tmp_path: Path) -> None:
    said = read_prompts(["mass"])["mass"]
    slow = np.array([score_slowly(cache, run, (said.present, said.absent), study) for study in range(12, 16)])
    for task, expected in (("breast:mass", slow.reshape(-1, 2).mean(1)), ("image:mass", slow.ravel())):
        out = tmp_path / task.partition(":")[0]
        path = run_zero_shot(
            cache.path, run, out, task=task, precision="32-true", min_positives=2, num_resamples=50, progress=False
        )
        scores = read_scores(out / "scores.npz")
        np.testing.assert_allclose(scores.logit[0, :, 0], expected, rtol=2e-4, atol=2e-4)
        result = read_result(path)
        positive, negative = (expected[scores.target[:, 0] == side] for side in (1, 0))
        wins = [(a > b) + 0.5 * (a == b) for a in positive for b in negative]
        assert result.find("auroc", "mass").value == pytest.approx(np.mean(wins))
        assert result.protocol["kind"] == "zero-shot"
    assert {one.slice for one in result.estimates} == {"all"}  # an image is fused with no other
    breasts = read_result(tmp_path / "breast" / "result.json")
    largest = slow.reshape(-1, 2).max(1)
    wins = [a > b for a in largest[[2, 6]] for b in np.delete(largest, [2, 6])]
    assert breasts.find("auroc", "mass", "views fused by the largest logit").value == pytest.approx(np.mean(wins))
    assert len(breasts.protocol["auroc_of_single_prompts"]["mass"]) == len(said.present)
    assert breasts.counts["test_views"] == 16


def test_views_are_fused_as_named() -> None:
    logit, owner = np.array([[1.0], [3.0], [-2.0], [5.0]]), np.array([0, 1, 0, 1])
    np.testing.assert_allclose(fuse_views(logit, owner, 2, "mean"), [[-0.5], [4.0]])
    np.testing.assert_allclose(fuse_views(logit, owner, 2, "max"), [[1.0], [5.0]])


def test_a_frozen_language_model_is_asked_for_and_read(cache: Cache, tmp_path: Path) -> None:
    run = train(cache, tmp_path, frozen=True)
    with pytest.raises(UserError, match="reads texts by bert, which is not in the file: say where it is"):
        run_zero_shot(cache.path, run, task="breast:mass", progress=False)
    words = ["zeroshot", str(run), "--data", str(cache.path), "--language-model", str(tmp_path / "bert")]
    assert main(words) == 0
    path = run / "zeroshot-breast-mass" / "result.json"
    assert read_result(path).find("auroc", "mass").value is not None
    write_report([path.parent], tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert "Zero-shot: breast:mass" in page
    assert "one half, which nobody tuned" in page


def test_what_cannot_be_asked_is_said(cache: Cache, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["zeroshot", str(run), "--data", str(cache.path), "--task", "breast:heart"]) == 2
    assert "there is no task 'breast:heart'" in capsys.readouterr().err
    assert main(["heatmap", str(run), "--data", str(cache.path), "--finding", "clip"]) == 2
    assert "has no prompts for clip" in capsys.readouterr().err
    assert main(["heatmap", str(run), "--data", str(cache.path), "--finding"]) == 2
    assert "--finding names none; expected some of mass" in capsys.readouterr().err
    alike = tmp_path / "alike.toml"  # the run reads lower case
    alike.write_text('[mass]\npresent = ["A mass.", "There is a mass."]\nabsent = ["THERE is a mass."]\n')
    assert main(["zeroshot", str(run), "--data", str(cache.path), "--prompts", str(alike)]) == 2
    assert "'There is a mass.' (of presence) and 'THERE is a mass.'" in " ".join(capsys.readouterr().err.split())
    assert not (run / "zeroshot-breast-mass").exists()
    with pytest.raises(UserError, match="no test view has a box or a mask of calcification"):
        run_heatmap(cache.path, run, tmp_path / "maps", findings=["calcification"], progress=False)


# --- heat maps


def test_lesions_come_from_boxes_and_masks(cache: Cache) -> None:
    found = list_lesions(cache, ("mass",))
    assert [(one.view % 4, len(one.masks)) for one in found] == [(0, 0), (1, 1)] * 2
    for one, (top, left, bottom, right) in zip(found, [BOXES["cc"], BOXES["mlo"]] * 2, strict=True):
        factor = 70 / 64  # the cache's short side has 64 pixels
        rows, columns = (np.arange(size) * factor + factor / 2 for size in cache.image(one.view).shape)
        inside = ((rows > top) & (rows < bottom))[:, None] & ((columns > left) & (columns < right))[None]
        assert np.count_nonzero(mark_lesions(cache, one) != inside) <= 0.06 * inside.sum()  # but for rounding at edges


def test_a_box_counts_beside_another_findings_mask(cache: Cache, tmp_path: Path) -> None:
    """The MLO view's mass has a mask; a second one is drawn as a box elsewhere: a map may point at either."""
    box = (90.0, 4.0, 108.0, 30.0)

    class Drawn(Cache):
        pass

    other = Drawn.open(cache.path)
    table = read_studies(cache.path / "studies.parquet")
    findings = [
        [*found, {**found[1], "mask": None, **dict(zip(("top", "left", "bottom", "right"), box, strict=True))}]
        if found else found
        for found in table[BREAST_FINDINGS].to_list()
    ]  # fmt: skip
    other.__dict__["path"] = tmp_path
    table = table.with_columns(pl.Series(BREAST_FINDINGS, findings, dtype=table.schema[BREAST_FINDINGS]))
    write_studies(table, tmp_path / "studies.parquet")
    _, both = list_lesions(other, ("mass",))[:2]
    assert (both.boxes.tolist(), len(both.masks)) == ([list(box)], 1)
    _, alone = list_lesions(cache, ("mass",))[:2]
    boxed = mark_lesions(cache, replace(alone, masks=(), boxes=np.array([box])))
    assert boxed.any()
    np.testing.assert_array_equal(mark_lesions(cache, both), mark_lesions(cache, alone) | boxed)


@pytest.mark.parametrize("tokenizer", ["token_linear", "all"])
def test_maps_are_scored_and_drawn(cache: Cache, run: Path, tmp_path: Path, tokenizer: str) -> None:
    run = run if tokenizer == "token_linear" else train(cache, tmp_path, tokenizer="all")
    (tmp_path / "maps" / "overlays").mkdir(parents=True)
    (tmp_path / "maps" / "overlays" / "0007-mass.png").write_bytes(b"of an earlier command")
    path = run_heatmap(
        cache.path, run, tmp_path / "maps", findings=["mass", "calcification"], precision="32-true", examples=2,
        draw=save_overlay, num_resamples=50, progress=False,
    )  # fmt: skip
    result = read_result(path)
    table = pl.read_parquet(path.parent / "maps.parquet")
    assert table["tolerance_mm"].to_list() == [0.0] * 4  # no spacing is known of these files
    assert table["by"].to_list() == ["box", "mask"] * 2
    assert "patient" not in table.columns
    for row in table.iter_rows(named=True):
        top, left, bottom, right = BOXES[row["view_kind"]]
        inside = top <= row["peak_row"] + 0.5 <= bottom and left <= row["peak_column"] + 0.5 <= right
        assert row["hit"] in (0, 1)
        assert row["hit"] == inside, row  # the maximum's place in the source says the same as the score
        assert row["chance"] == pytest.approx((bottom - top) * (right - left) / (112 * 70), rel=0.06)
        assert row["centre"] == (top < 56 < bottom and left < 35 < right)
    hit = result.find("pointing_hit", "mass", "tolerance=0 mm")
    assert (hit.value, hit.num) == (table["hit"].mean(), 4)
    above = result.find("pointing_above_chance", "mass", "tolerance=0 mm")
    assert above.value == pytest.approx((table["hit"] - table["chance"]).mean())
    steps = [one.slice for one in result.estimates if one.metric == "map_rank_correlation"]
    assert steps == [f"random={step}" for step in ("projection", "transformer", "tokenizer", "backbone")]
    assert set(result.protocol["verdicts"]["mass"]) == {"passes", "why"}
    assert any("Of calcification no view" in note for note in result.notes)
    pictures = sorted((path.parent / "overlays").glob("*.png"))
    assert len(pictures) == 2
    write_report([path.parent], tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert "Pointing game" in page
    assert page.count("data:image/png;base64,") == 2
    assert json.loads(path.read_text())["protocol"]["tokenizer"] == tokenizer
