"""`hilum evaluate mvmlm`, retrieval and matching: what comes out is what single views and texts say, one at a time."""

from __future__ import annotations

import io
import shutil
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from hilum.augment import prepare
from hilum.cache import Cache
from hilum.cli import main
from hilum.commands.paper import run_evaluate
from hilum.errors import UserError
from hilum.evaluate.paper.entrants import find_entrants
from hilum.evaluate.paper.index import MATCHING, RETRIEVAL, Suite, read_suite
from hilum.evaluate.paper.mvmlm import suite as mvmlm
from hilum.evaluate.paper.mvmlm.pair_tables import tabulate_pairs
from hilum.evaluate.paper.mvmlm.pairs import explain_no_text, explain_no_vector, note_left_out, read_shared
from hilum.evaluate.subject import find_subject
from hilum.loader import iterate_studies
from hilum.model.text_weights import ENCODER_FILE, load_text_encoder
from hilum.report.page import write_report

PARTS = ("retrieval", "matching")
SETTINGS = {"parts": PARTS, "num_seeds": 1, "num_resamples": 20, "precision": "32-true"}


@pytest.fixture(scope="module")
def texts(exam_cache: Cache, exam_run: Path) -> Path:
    return exam_cache.path.parent / "texts.parquet"  # of `pretrain_exams`


@pytest.fixture(scope="module")
def folder(
    exam_cache: Cache, exam_run: Path, other_run: Path, texts: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    out = tmp_path_factory.mktemp("suite")
    runs = [f"mv_clip={exam_run}", f"other={other_run}"]
    with (
        (out / "said.txt").open("w") as said, redirect_stdout(said), redirect_stderr(io.StringIO()),
        pytest.MonkeyPatch.context() as patch,
    ):  # fmt: skip
        patch.setattr("hilum.evaluate.slices.LEAST_ROWS", 4)
        run_evaluate(exam_cache.path, runs, out, suite="mvmlm", texts=texts, **SETTINGS)
    return out


def embed_slowly(cache: Cache, run: Path, texts: Path) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """CC and MLO vectors of the ten test breasts, a view at a time, the vector of each one's text, and the texts."""
    image, (encoder, tokenizer, _) = find_subject(run).load(0), load_text_encoder(run)
    table = pl.read_parquet(texts)
    said = {(row["study"], row["laterality"]): row["text"] for row in table.iter_rows(named=True)}
    views, vectors, sentences = [], [], []
    for study in range(15, 20):
        (batch,) = iterate_studies(cache, np.array([study]), views_per_batch=9, crop=find_subject(run).settings.shown)
        pixels = prepare(batch, size=(96, 64), mean=cache.mean, std=cache.std).pixels
        with torch.no_grad():
            each = [image.encode(pixels[view : view + 1]).embedding[0].double().numpy() for view in range(4)]
        for side, name in enumerate(("left", "right")):
            views.append([each[side], each[2 + side]])
            sentences.append(said[f"s{study:02d}", name])
            ids = [tokenizer.token_to_id("[CLS]"), *tokenizer.encode(sentences[-1], add_special_tokens=False).ids]
            ids = [*ids[: encoder.config.length - 1], tokenizer.token_to_id("[SEP]")]
            with torch.no_grad():
                tokens = encoder.enter(encoder.language_model(input_ids=torch.tensor([ids])).last_hidden_state)
                for block in encoder.blocks:
                    tokens = block(tokens)
                vectors.append(encoder.project(encoder.norm(tokens).amax(dim=1))[0].double().numpy())
    return np.array(views), np.array(vectors), sentences


def unit(vector: np.ndarray) -> np.ndarray:
    return vector / np.sqrt(vector @ vector)


def take_value(suite: Suite, kind: str, method: str, metric: str, way: str) -> float:
    value = suite.methods[kind, method, None].find(metric, "text" if kind == RETRIEVAL else "view", way).value
    assert value is not None
    return value


def test_retrieval_is_what_single_views_and_texts_say(
    folder: Path, exam_cache: Cache, exam_run: Path, other_run: Path, texts: Path
) -> None:
    suite = read_suite(folder)
    for method, run in (("mv_clip", exam_run), ("other", other_run)):
        views, vectors, said = embed_slowly(exam_cache, run, texts)
        image = [unit(unit(cc) + unit(mlo)) for cc, mlo in views]
        score = np.array([[one @ unit(text) for text in vectors] for one in image])
        right = np.array([[a == b for a in said] for b in said])
        for way, table in (("image to text", score), ("text to image", score.T)):
            for k in (1, 5):
                hits = []
                for i in range(10):
                    # Several breasts have the same text, whose vectors are level: right or wrong together.
                    best = max(table[i, j] for j in range(10) if right[i, j])
                    before = sum(table[i, j] > best + 1e-6 for j in range(10))
                    hits.append(before < k)
                assert take_value(suite, RETRIEVAL, method, f"recall_at_{k}", way) == pytest.approx(np.mean(hits))
        chance = np.mean(right.mean(axis=1))
        assert take_value(suite, RETRIEVAL, method, "chance_at_1", "text to image") == pytest.approx(chance)
    counts = suite.methods[RETRIEVAL, "mv_clip", None].counts
    assert [counts[name] for name in ("test_breasts", "candidates", "distinct_texts", "test_patients")] == [
        10,
        10,
        4,
        5,
    ]


def test_matching_is_what_single_views_say(
    folder: Path, exam_cache: Cache, exam_run: Path, other_run: Path, texts: Path
) -> None:
    suite = read_suite(folder)
    for method, run, width in (("mv_clip", exam_run, 32), ("other", other_run, 16)):
        views = embed_slowly(exam_cache, run, texts)[0][:, :, :width]
        score = np.array([[unit(a[0]) @ unit(b[1]) for b in views] for a in views])
        for way, table in (("CC to MLO", score), ("MLO to CC", score.T)):
            rank = [1 + sum(table[i, j] > table[i, i] for j in range(10)) for i in range(10)]
            for k in (1, 5, 10):
                share = np.mean([one <= k for one in rank])
                assert take_value(suite, MATCHING, method, f"recall_at_{k}", way) == pytest.approx(share)
                assert take_value(suite, MATCHING, method, f"chance_at_{k}", way) == pytest.approx(k / 10)
            assert take_value(suite, MATCHING, method, "median_rank", way) == sorted(rank)[4]
            nearer = np.mean([table[i, i] > table[i, i + 1 - 2 * (i % 2)] for i in range(10)])
            assert take_value(suite, MATCHING, method, "ipsilateral_auc", way) == pytest.approx(nearer)
    assert suite.methods[MATCHING, "other", None].protocol.get("unit") == "breast"
    assert (MATCHING, "supervised", None) in suite.methods  # random weights show what the architecture does
    assert (RETRIEVAL, "supervised", None) not in suite.methods


def test_differences_are_paired_with_the_first(folder: Path) -> None:
    suite = read_suite(folder)
    assert set(suite.differences) == {
        (RETRIEVAL, "other", "mv_clip"), (MATCHING, "other", "mv_clip"), (MATCHING, "supervised", "mv_clip"),
    }  # fmt: skip
    found = suite.differences[RETRIEVAL, "other", "mv_clip"].find("recall_at_5", "text", "image to text")
    values = [take_value(suite, RETRIEVAL, name, "recall_at_5", "image to text") for name in ("other", "mv_clip")]
    assert found.value == pytest.approx(values[0] - values[1])
    same = suite.differences[RETRIEVAL, "other", "mv_clip"].find("chance_at_5", "text", "image to text")
    assert (same.value, same.low, same.high) == (0, 0, 0)


def test_tables_stand_in_console_file_and_report(folder: Path) -> None:
    suite = read_suite(folder)
    tables = {table.title: table for table in tabulate_pairs(suite)}
    assert list(tables) == [
        "Retrieval of texts", "Matching of views", "Own or other breast", "Pairs of breasts: differences to mv_clip",
    ]  # fmt: skip
    rows = {row[0]: row[1:] for row in tables["Matching of views"].rows}
    assert [*rows] == [f"{name}, {way}" for name in suite.names for way in ("CC to MLO", "MLO to CC")]
    assert rows["mv_clip, CC to MLO"][:2] == ["10", "10"]
    assert rows["mv_clip, CC to MLO"][5:8] == ["10.0", "50.0", "100.0"]
    assert rows["mv_clip, CC to MLO"][9] == "5"
    assert all(row[-1] == "50.0" and row[1] == "10" for row in tables["Own or other breast"].rows)
    lacking = tables["Pairs of breasts: differences to mv_clip"].rows
    assert lacking[0][0] == "other, image to text"
    assert lacking[0][-2:] == ["-", "-"]  # no sides in retrieval
    said, written = (folder / "said.txt").read_text(), (folder / "tables.md").read_text()
    for title in tables:
        assert title in said
        assert f"## {title}" in written
    assert "among the same candidates" in " ".join(written.split())
    (note,) = (one for one in suite.index["notes"] if one.startswith("No retrieval"))
    assert note == "No retrieval of texts by supervised (random weights have no text encoder)."
    assert any("the side alone may tell a woman's one breast" in one for one in suite.index["notes"])
    write_report([folder], folder / "report.html", title="toy")
    page = (folder / "report.html").read_text()
    assert all(title in page for title in tables)
    assert "evaluations on toy" in page


def test_the_same_again_does_nothing(
    folder: Path, exam_cache: Cache, exam_run: Path, other_run: Path, texts: Path
) -> None:
    def note() -> dict[Path, int]:
        return {path: path.stat().st_mtime_ns for path in folder.glob("cells/unlabelled/*/result.json")}

    before, runs = note(), [f"mv_clip={exam_run}", f"other={other_run}"]
    # A frozen language model is of other runs: these have one of their own, and read no other.
    mvmlm.run_mvmlm(exam_cache.path, runs, folder, texts=texts, language_model=folder, progress=False, **SETTINGS)
    assert note() == before


# --- what cannot be asked


def test_without_texts_there_is_no_retrieval_and_it_is_said(exam_cache: Cache, exam_run: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nothing for --protocols retrieval: .*Add --texts FILE"):
        mvmlm.run_mvmlm(exam_cache.path, [str(exam_run)], tmp_path, parts=("retrieval",), progress=False)
    words = [
        "evaluate",
        "mvmlm",
        "--data",
        str(exam_cache.path),
        "--runs",
        str(exam_run),
        "--out",
        str(tmp_path / "out"),
    ]
    few = ["--protocols", "matching", "--seeds", "1"]
    assert main([*words, *few]) == 0
    suite = read_suite(tmp_path / "out")
    assert {kind for kind, _, _ in suite.methods} == {MATCHING}
    one = suite.methods[MATCHING, exam_run.name, None].find("recall_at_1", "view", "CC to MLO")
    assert (one.value, one.reason) == (None, "too few: 10 of 30 test rows at least")
    with pytest.raises(UserError, match="is read by retrieval alone: add retrieval to --protocols"):
        mvmlm.run_mvmlm(exam_cache.path, [str(exam_run)], tmp_path, parts=("matching",), texts=tmp_path, progress=False)


def test_texts_of_no_test_breast_are_refused(exam_cache: Cache, exam_run: Path, texts: Path, tmp_path: Path) -> None:
    pl.read_parquet(texts).filter(pl.col("study") < "s15").write_parquet(tmp_path / "few.parquet")
    with pytest.raises(UserError, match="none of its texts is of a test breast"):
        mvmlm.run_mvmlm(
            exam_cache.path, [str(exam_run)], tmp_path, parts=("retrieval",), texts=tmp_path / "few.parquet",
            progress=False,
        )  # fmt: skip


def test_encoders_without_the_vectors_are_named_with_what_to_do(
    exam_run: Path, other_run: Path, tmp_path: Path
) -> None:
    alone, second = tmp_path / "alone", tmp_path / "second"
    for copy, whole in ((alone, exam_run), (second, other_run)):
        shutil.copytree(whole, copy)
        (copy / ENCODER_FILE).unlink()
    run, random = find_entrants([str(exam_run)])
    (bare, _) = find_entrants([str(alone)])
    (vit,) = find_entrants(["supervised=supervised:nano"])
    assert [explain_no_vector(one) for one in (run, random, bare)] == [None] * 3
    assert "makes no projected vector, which runs of custom_clip" in (explain_no_vector(vit) or "")
    assert explain_no_text(run) is None
    assert "give the run folder of a pretraining with texts" in (explain_no_text(bare) or "")
    for runs, named in ((f"both={exam_run},{second}", "both: second"), (f"both={alone},{second}", "both")):
        (note,) = note_left_out("retrieval", find_entrants([runs], beside_random=False), explain_no_text)
        assert note.startswith(f"No retrieval by {named} (no ")
    assert read_shared(run) == 1.0
    run.subject.about["finetuning"] = {"task": "breast:mass"}
    assert "give the run that it came from" in (explain_no_vector(run) or "")
