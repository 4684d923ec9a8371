"""`hilum evaluate pacx`: every cell of the paper's evaluation and of what it lacks runs, is kept, and is compared."""

from __future__ import annotations

import io
import json
import shutil
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from shown import TINY, write_run

from hilum.cache import Cache
from hilum.checksums import hash_file
from hilum.cli import main
from hilum.commands.paper import run_evaluate
from hilum.config import ConvEncoderConfig, InitialWeights, dump_config
from hilum.errors import UserError
from hilum.evaluate.features import embed_cache
from hilum.evaluate.paper.entrants import find_entrants
from hilum.evaluate.paper.index import read_suite
from hilum.evaluate.paper.pacx import cells as pacx_cells
from hilum.evaluate.paper.pacx import distillation, mask_sources
from hilum.evaluate.paper.pacx import suite as pacx
from hilum.evaluate.paper.tables import build_tables
from hilum.evaluate.result import Estimate, read_result
from hilum.evaluate.scoring.resamples import FILE, Resamples, average, estimate_resamples, subtract, write_mean
from hilum.evaluate.task import read_task
from hilum.model.conv_encoder import ConvEncoder
from hilum.model.conv_weights import save_conv_encoder
from hilum.model.encoder import Encoder
from hilum.model.weights import save_encoder
from hilum.recipes import build_recipe
from hilum.report.page import write_report
from hilum.teachers.vectors import read_teacher_vectors
from tiny_runs import write_vectors

SEGMENTED = {
    "iou": "IoU", "dice": "Dice", "iou_pooled": "IoU, pooled", "dice_pooled": "Dice, pooled",
    "surface_distance": "border, mean", "hausdorff_95": "border, 95 %",
}  # fmt: skip
SETTINGS = {
    "fractions": (0.3, 1.0), "num_seeds": 2, "decoders": ("light", "dpt"), "decoder_epochs": 1, "epochs": 1,
    "min_positives": 3, "num_resamples": 20, "precision": "32-true", "progress": False,
}  # fmt: skip


@pytest.fixture(scope="module")
def runs(shown_cache: Cache, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """A masked autoencoder, and two runs of an arm that started from it: one moved a little, one much."""
    root = tmp_path_factory.mktemp("arms")
    start = write_run(root / "mae", shown_cache, 1)
    about = {"mean": shown_cache.mean, "std": shown_cache.std, "image_policy": shown_cache.policy}
    for name, size in (("near", 0.01), ("far", 0.3)):
        run = write_run(root / name, shown_cache, 1)
        torch.manual_seed(1)
        encoder = Encoder(TINY)
        with torch.no_grad():
            for value in encoder.parameters():
                value.add_(size * torch.randn_like(value))
        save_encoder(encoder, run / "weights.safetensors", about)
        begun = InitialWeights(file="mae/weights.safetensors", sha256=hash_file(start / "weights.safetensors"))
        config = replace(build_recipe("pacx", "hilum", "tiny"), initial_weights=begun)
        (run / "config.json").write_text(dump_config(config))
    return [f"mae={root / 'mae'}", f"pacx={root / 'near'},{root / 'far'}"]


@pytest.fixture(scope="module")
def ecg(shown_cache: Cache, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A teacher that says how bright the upper left of a study's first image is, for five studies of six."""
    rows = shown_cache.rows()[shown_cache.rows() % 6 > 0]
    first = shown_cache.studies["first_view"][rows]
    bright = np.array([shown_cache.image(int(view))[:32, :32].mean() for view in first])
    noise = np.random.default_rng(0).normal(size=(len(rows), 4))
    values = np.column_stack([bright / 10, noise]).astype(np.float32)
    return {"ecg": write_vectors(shown_cache, tmp_path_factory.mktemp("teacher") / "ecg.parquet", values, rows)}


@pytest.fixture(scope="module")
def masked() -> pytest.MonkeyPatch:
    with pytest.MonkeyPatch.context() as patch:
        yield patch


@pytest.fixture(scope="module")
def folder(
    shown_cache: Cache, runs: list[str], ecg: dict[str, Path], masked: pytest.MonkeyPatch,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:  # fmt: skip
    def draw():
        for view in range(0, len(shown_cache.views), 6):
            image = shown_cache.image(view)
            yield view, {"bright": image > 135, "left": np.arange(image.shape[1])[None].repeat(len(image), 0) < 32}

    source = distillation.MaskSource(("bright", "left"), draw, "toy")
    masked.setattr(pacx, "find_masks", lambda *_: source)
    out = tmp_path_factory.mktemp("suite")
    with (out / "said.txt").open("w") as said, redirect_stdout(said), redirect_stderr(io.StringIO()):
        run_evaluate(
            shown_cache.path, runs, out, suite="pacx", teachers=ecg, paper=True, **SETTINGS | {"progress": True}
        )
    return out


def test_every_arm_has_every_result_and_its_difference_to_the_first(folder: Path) -> None:
    suite = read_suite(folder)
    (few,) = suite.index["label_counts"]
    kinds = {
        ("probe", None), ("probe", few), ("finetune", None), ("alignment with ecg", None), ("rollout", None),
        ("segmentation by light", None), ("segmentation by dpt", None),
    }  # fmt: skip
    expected = {(kind, arm, count) for kind, count in kinds for arm in ("mae", "pacx")}
    assert set(suite.methods) == expected | {("drift", "pacx", None), ("rescued", "pacx", None)}
    assert suite.index["failed"] == {}
    names = {kind if count is None else f"{kind}, {count} labels" for kind, count in kinds}
    assert set(suite.differences) == {(name, "pacx", "mae") for name in names}
    assert suite.index["shares"] == {str(few): 0.3}


def test_numbers_with_resamples_are_averaged_over_runs_and_paired(folder: Path) -> None:
    suite, index = read_suite(folder), json.loads((folder / "suite.json").read_text())
    for kind, metric, of, slice in (
        ("alignment with ecg", "centred_cosine", "ecg", "penalty chosen on validation"),
        ("segmentation by light", "dice", "macro", "all"),
        ("rollout", "rollout_share", "left", "class token"),
        ("drift", "cosine", "mean patch token", "all"),
    ):
        runs = [
            read_result(folder / cell["path"]).find(metric, of, slice).value
            for cell in index["cells"] if cell["kind"] == kind and cell["method"] == "pacx"
        ]  # fmt: skip
        assert len(runs) == 2
        mean = suite.methods[kind, "pacx", None].find(metric, of, slice)
        assert mean.value == pytest.approx(np.mean(runs))
        assert mean.low - 1e-9 <= mean.value <= mean.high + 1e-9
        if kind != "drift":
            own = suite.methods[kind, "mae", None].find(metric, of, slice).value
            pair = suite.differences[kind, "pacx", "mae"].find(metric, of, slice)
            assert pair.value == pytest.approx(mean.value - own)
            assert pair.low <= pair.high


def test_what_moved_more_has_drifted_more_from_where_it_started(folder: Path) -> None:
    index = json.loads((folder / "suite.json").read_text())
    drift = {cell["encoder"]: read_result(folder / cell["path"]) for cell in index["cells"] if cell["kind"] == "drift"}
    near, far = (drift[f"pacx: {name}"].find("cosine", "mean patch token").value for name in ("near", "far"))
    assert 1 > near > 0.99 > far


def test_runs_of_an_arm_may_have_started_from_different_runs(folder: Path, tmp_path: Path) -> None:
    """As seeds do: the arm that they started from is what they have in common."""
    index, runs = json.loads((folder / "suite.json").read_text()), []
    for cell in index["cells"]:
        if cell["kind"] == "drift":
            runs.append(Path(shutil.copytree((folder / cell["path"]).parent, tmp_path / str(len(runs)))))
            kept = json.loads((runs[-1] / "result.json").read_text())
            assert kept["protocol"]["start_run"] == kept["protocol"]["start"] == "mae"
            kept["protocol"]["start_run"] = f"mae: {len(runs)}"
            (runs[-1] / "result.json").write_text(json.dumps(kept))
    (tmp_path / "mean").mkdir()
    write_mean(tmp_path / "mean", "pacx", runs)
    protocol = read_result(tmp_path / "mean" / "result.json").protocol
    assert (protocol["start"], "start_run" in protocol, len(protocol["runs"])) == ("mae", False, 2)


def test_typed_again_it_does_nothing_and_a_lost_cell_is_made_again(
    folder: Path, shown_cache: Cache, runs: list[str], ecg: dict[str, Path]
) -> None:
    before = {path: path.stat().st_mtime_ns for path in (folder / "cells").rglob("*.json")}
    lost = next(path for path in before if "rollout" in path.parent.name and "mae" in path.parent.name[:4])
    content = json.loads(lost.read_text())
    shutil.rmtree(lost.parent)
    pacx.run_pacx(shown_cache.path, runs, folder, teachers=ecg, paper=True, **SETTINGS)
    after = {path: path.stat().st_mtime_ns for path in (folder / "cells").rglob("*.json")}
    assert {path for path in after if after[path] != before[path]} == {lost}
    assert json.loads(lost.read_text()) == content


def test_tables_show_the_users_and_the_published_numbers(folder: Path, tmp_path: Path) -> None:
    tables = {table.title: table for table in build_tables(read_suite(folder))}
    assert list(tables) == [
        "Linear probe", "Few labels", "Ablation", "Segmentation", "Alignment", "Metrics, linear probe",
        "Metrics, fine-tuned", "Gain and controls, linear probe", "Gain and controls, fine-tuned",
        "Differences to mae", "Segmentation by structure", "Retrieval", "Attention rollout", "Rescued and lost",
        "Drift from the start", "Archives seen in pretraining",
    ]  # fmt: skip
    probe = {row[0].partition(" [")[0]: row for row in tables["Linear probe"].rows}
    assert list(probe) == ["mae", "pacx", "ImageNet ViT-B/16 (published)", "MAE (published)", "PaCX-MAE (published)"]
    assert tables["Few labels"].columns[1:5] == ["toy 1%", "toy 10%", "toy 30%", "toy 100%"]
    metrics = tables["Metrics, linear probe"]
    assert metrics.columns[1:] == ["AUROC", "AUPRC", "F1, tuned threshold", "F1 at 0.5", "Brier error", "labels"]
    result = read_suite(folder).methods["probe", "mae", None]
    scored = [one.of for one in result.estimates if one.metric == "auroc" and one.slice == "all" and one.reason is None]
    assert metrics.rows[0][-1] == f"{len(scored) - 1} of 14"  # one of them is the mean
    differences = [row[0] for row in tables["Differences to mae"].rows]
    assert "AUROC, linear probe, 30% of the labels" in differences
    assert "ECG: centred cosine" in differences
    assert "IoU, dpt decoder" in differences
    assert "border, 95 %, dpt decoder" in differences
    drawn = tables["Segmentation by structure"]
    rows = {row[0]: row[1:] for row in drawn.rows}
    assert {name.partition(", structure")[0] for name in rows} == {
        f"{arm}, {decoder} decoder: {structure}"
        for arm in ("mae", "pacx") for decoder in ("light", "dpt") for structure in ("bright", "left")
    }  # fmt: skip
    for metric, factor in (("iou_pooled", 100), ("dice_pooled", 100), ("surface_distance", 1), ("hausdorff_95", 1)):
        found = read_suite(folder).methods["segmentation by dpt", "pacx", None].find(metric, "left", "all")
        place = list(SEGMENTED).index(metric) + 1
        assert drawn.columns[place] == SEGMENTED[metric]
        said = f"{factor * found.value:.1f}\n{factor * found.low:.1f} to {factor * found.high:.1f}"
        assert rows["pacx, dpt decoder: left"][place - 1] == said
    drift = tables["Drift from the start"]
    assert drift.columns[1:] == ["CKA, class token", "CKA, mean patch token", "cosine, class token", "cosine, regions"]
    assert [row[0] for row in drift.rows] == ["pacx from mae"]
    assert tables["Attention rollout"].rows[-1][0] == "an even rollout"
    assert tables["Attention rollout"].rows[-1][2].startswith("50.0")
    write_report([folder], tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    for said in (
        "suite-pacx",
        "PaCX-MAE&#39;s protocols",
        "masks 75 %",
        "Differences to mae",
        "Label efficiency",
        "Where pacx: near looks",
    ):
        assert said in page, said
    assert "MVMAE (published)" not in page
    assert "Fewer than 3 runs: mae (1), pacx (2)." in page


def test_a_studys_vector_is_the_mean_of_its_views_beside_its_own_teachers(
    shown_cache: Cache, runs: list[str], ecg: dict[str, Path]
) -> None:
    features = embed_cache(shown_cache, runs[0].partition("=")[2], precision="32-true", progress=False)
    teacher = read_teacher_vectors(shown_cache, ecg["ecg"])

    pairs = pacx_cells.pair_with_teacher(shown_cache, features, "both", teacher, shown_cache.rows("test"))
    rows = [row for row in shown_cache.rows("test") if row % 6]
    assert len(pairs.patient) == len(rows)
    for place in (0, len(rows) - 1):
        own = features.study == rows[place]
        expected = np.concatenate([features.class_token[own].mean(0), features.mean[own].mean(0)])
        np.testing.assert_allclose(pairs.features[place], expected, rtol=1e-5)
        np.testing.assert_array_equal(pairs.teacher[place], teacher.values[teacher.of_study[rows[place]]])


def test_means_and_differences_are_taken_resample_by_resample() -> None:
    names = (("a", "b", "all"), ("c", "d", "all"))
    one = Resamples(names, np.array([1.0, np.nan]), np.array([[1.0, 3.0], [np.nan, np.nan]]), "same")
    other = replace(one, value=np.array([2.0, 5.0]), resampled=np.array([[5.0, 5.0], [5.0, 5.0]]))
    mean = average([one, other])
    assert mean.value.tolist()[0] == 1.5
    assert mean.resampled.tolist()[0] == [3.0, 4.0]
    pair = subtract(other, one.take(names[:1]))
    assert pair.names == names[:1]
    assert (pair.value.tolist(), pair.resampled.tolist()) == ([1.0], [[4.0, 2.0]])
    like = [Estimate("a", "b", 0.0, num=7), Estimate("c", "d", None, reason="nothing there")]
    first, second = estimate_resamples(mean, like)
    assert (first.value, first.num, first.reason) == (1.5, 7, None)
    assert (second.value, second.reason) == (None, "nothing there")
    with pytest.raises(AssertionError, match="different rows"):
        average([one, replace(other, rows="other")])


def test_without_masks_teachers_or_a_start_the_rest_is_evaluated_and_said(
    shown_cache: Cache, runs: list[str], masked: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """From the command line."""
    out = tmp_path / "out"
    words = ["evaluate", "pacx", "--data", str(shown_cache.path), "--runs", runs[0], "--out", str(out)]
    with masked.context() as patch:
        patch.setattr(pacx, "find_masks", mask_sources.find_masks)
        parts = ["probe", "alignment", "rollout", "drift"]
        assert main([*words, "--protocols", *parts, "--fractions", "1", "--seeds", "1"]) == 0
        said = capsys.readouterr().out
        assert f"Next: hilum report {shown_cache.path} {out}" in said
        suite = read_suite(out)
        assert set(suite.methods) == {("probe", "mae", None)}
        assert any("no alignment: no --teachers were named; no segm" in note for note in suite.index["notes"])
        assert build_tables(suite)[0].title == "Linear probe"
        assert len(list(out.rglob(FILE))) == 1, "of the probe alone"
        for more, message in (
            (["--protocols", "rollout"], "There is nothing for --protocols rollout"),
            (["--teachers", "ecg"], "expected NAME=TABLE"),
            (["--fractions", "2"], "--fractions 2: expected shares"),
            (["--structures", "heart"], "--structures has no effect without --masks"),
        ):
            assert main([*words[:-1], str(tmp_path / "none"), *more]) == 2
            assert message in capsys.readouterr().err
    assert not (tmp_path / "none").exists()


def test_encoders_whose_attention_cannot_be_read_are_named(runs: list[str]) -> None:
    (note,) = pacx.note_unread(find_entrants([runs[0], "resnet=timm:test_resnet=random"], beside_random=False))
    assert note.startswith("no rollout and no rescued cases of resnet: attention is read in")
    assert pacx.note_unread(find_entrants(runs, beside_random=False)) == []


def test_the_released_probe_runs_end_to_end_and_is_told_from_ours_everywhere(
    shown_cache: Cache, runs: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """From the command line: other features, other cells, other captions."""
    out = tmp_path / "out"
    words = ["evaluate", "pacx", "--data", str(shown_cache.path), "--out", str(out), "--protocols", "probe"]
    words += ["--fractions", "0.3", "1", "--seeds", "2", "--paper", "--runs", runs[0], f"near={runs[1].split(',')[1]}"]
    assert main([*words, "--head", "released"]) == 0
    suite = read_suite(out)
    assert (suite.index["head"], suite.index["representation"]) == ("released", "class")
    (few,) = map(int, suite.index["shares"])
    assert set(suite.methods) == {("probe", name, count) for name in ("mae", "near") for count in (None, few)}
    protocol = suite.methods["probe", "mae", None].protocol
    assert (protocol["representation"], protocol["fusion"], protocol["train_on"]) == ("class", "mean_logit", "view")
    assert (protocol["features"]["crop"], protocol["features"]["mirrored"]) == ("squash", "training views")
    assert suite.methods["probe", "mae", few].protocol["trained_with"]["epochs"] == 40
    tables = {table.title: table for table in build_tables(suite)}
    assert tables["Linear probe as released"].columns[1:3] == ["toy AUROC", "toy F1 at 0.5"]
    for title in ("Linear probe as released", "Few labels", "Ablation", "Metrics, linear probe as released"):
        assert "--head released" in tables[title].caption, title
        assert "logistic" not in tables[title].caption
    found = suite.methods["probe", "mae", None].find("f1_at_half").value
    assert found is not None
    assert tables["Linear probe as released"].rows[0][2].startswith(f"{100 * found:.1f}")
    assert any("AUROC, linear probe as released" in row for row in tables["Differences to mae"].rows[0])
    mine = {path.name for path in (out / "cells").iterdir()}

    assert main([*words, "--representation", "mean"]) == 0
    suite = read_suite(out)
    assert suite.index["head"] == "linear"
    assert suite.methods["probe", "mae", None].protocol["representation"] == "mean"
    assert "Probes of all arms read one thing of an image: the mean of the patch tokens." in suite.index["notes"]
    assert "logistic regressions" in build_tables(suite)[0].caption
    assert mine < {path.name for path in (out / "cells").iterdir()}  # none of them was taken for ours
    capsys.readouterr()
    words[words.index("probe")] = "drift"
    for more in (["--head", "released"], ["--representation", "class"]):
        assert main([*words, *more]) == 2
        assert f"{more[0]} has no effect without --protocols probe" in capsys.readouterr().err


def test_an_encoder_without_a_class_token_is_refused_before_anything_runs(shown_cache: Cache, tmp_path: Path) -> None:
    run = write_run(tmp_path / "vit", shown_cache, 1)
    convolutional = tmp_path / "conv"
    convolutional.mkdir()
    about = {"mean": shown_cache.mean, "std": shown_cache.std, "image_policy": shown_cache.policy}
    config = ConvEncoderConfig(backbone="resnet10t", image_height=64, image_width=64, num_tokens=2, width=8, heads=2)
    save_conv_encoder(ConvEncoder(config), convolutional / "weights.safetensors", about)
    shutil.copy(run / "pretraining.json", convolutional)
    words, out = [f"vit={run}", f"conv={convolutional}"], tmp_path / "out"
    for how, message in (
        ({"representation": "class"}, r"^conv: this encoder has no class token.*offers mean, max"),
        ({"representation": "both"}, r"^conv: this encoder has no class token"),
        ({"representation": "max"}, r"^vit: this encoder offers no 'max'"),
        ({"head": "released"}, r"^conv: .*--head released reads it: add --representation mean"),
    ):
        with pytest.raises(UserError, match=message):
            pacx.run_pacx(shown_cache.path, words, out, parts=("probe",), progress=False, **how)
    assert not list(out.rglob("result.json"))


def test_shares_of_labels_are_counts_of_whole_training_sets(shown_cache: Cache) -> None:
    task = read_task(shown_cache, "findings")
    num = len(task.rows("train"))
    assert pacx.count_labels(task, (0.01, 0.5, 1.0)) == {2: 0.01, -(-num // 2): 0.5}
    with pytest.raises(UserError, match=r"--fractions 1\.5: expected shares"):
        pacx.count_labels(task, (1.5,))


def test_the_phantoms_masks_are_asked_for_by_name(phantom_with_masks: tuple[Path, Cache]) -> None:
    archive, cache = phantom_with_masks
    drawn = {}
    for names in ((), ("heart",)):
        source = mask_sources.find_masks(cache, archive, names)
        assert source is not None
        drawn[source.structures] = dict(source.draw())
    assert set(drawn) == {("heart", "lungs", "bone"), ("heart",)}
    for structures, found in drawn.items():
        assert len(found) == len(cache.views)
        assert all(masks[name].any() for masks in found.values() for name in structures)
    for where, names, message in ((archive, ("hart",), "no mask of 'hart'"), (cache.path, (), "no masks are here")):
        with pytest.raises(UserError, match=message):  # at once, and not after hours of other cells
            mask_sources.find_masks(cache, where, names)
    assert mask_sources.find_masks(cache, None) is None
    with pytest.raises(UserError, match="--structures has no effect without --masks"):
        mask_sources.find_masks(cache, None, ("heart",))


def test_the_command_line_knows_both_suites(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", "--help"]) == 0
    said = capsys.readouterr().out
    assert "mvmae" in said
    assert "pacx" in said
    assert main(["evaluate", "pakx"]) == 2
    assert "There is no suite 'pakx'. Did you mean" in capsys.readouterr().err
