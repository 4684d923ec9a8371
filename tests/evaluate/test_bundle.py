"""A bundle says of images what the evaluation said of them, and nothing where it cannot be sure."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from shown import write_run
from timm.models.vision_transformer import VisionTransformer

from breast_pictures import draw_breast
from hilum.augment import resample
from hilum.cache import Cache
from hilum.cli import main
from hilum.config import ConvEncoderConfig, CropConfig
from hilum.errors import UserError
from hilum.evaluate.features import embed_cache
from hilum.evaluate.finetune.classifier import StudyClassifier
from hilum.evaluate.finetune.report import run_finetune
from hilum.evaluate.heads.kept import read_head
from hilum.evaluate.probe.protocol import Arm, ProbeProtocol
from hilum.evaluate.probe.report import report_probes
from hilum.evaluate.scoring.scores import Scores, read_scores
from hilum.evaluate.subject import find_subject
from hilum.evaluate.task import read_findings_task
from hilum.export import graph
from hilum.export.bundle import Bundle, load_bundle
from hilum.export.describe import describe_preprocessing
from hilum.export.graph import ImageScorer, compare_with_torch, list_kinds, write_graph
from hilum.export.preparation import prepare_image
from hilum.export.readme import write_readme
from hilum.export.write_bundle import build_scorer, list_heads
from hilum.imaging.mammography.stretch import stretch_breast
from hilum.imaging.resize import quantize, resize_short_side
from hilum.loader import place_crops
from hilum.model.conv_encoder import ConvEncoder
from hilum.model.conv_weights import save_conv_encoder
from hilum.model.encoder import Encoder
from hilum.model.weights import load_encoder
from hilum.vocabulary import VIEW_KINDS

SHOWN = {"frame": None, "short_side": 64, "bits": 8, "crop": "center", "height": 32, "width": 32}


@pytest.fixture(scope="module")
def exported(shown_cache: Cache, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run, its probe, and the bundle that the command makes of them."""
    folder = tmp_path_factory.mktemp("exported")
    run = write_run(folder / "run", shown_cache, 0)
    arm = Arm("run", "encoder", embed_cache(shown_cache, run, precision="32-true", progress=False))
    protocol = ProbeProtocol(representation="4x4", counts=[20], num_seeds=1)
    task = read_findings_task(shown_cache, ("Edema", "Fracture", "Pneumothorax"))
    report_probes(shown_cache, [arm], task, folder / "probe", protocol, progress=False)
    command = f"export {run} --head {folder / 'probe'} --out {folder / 'bundle'} --weights-licence ours"
    assert main(command.split()) == 0
    return folder


@pytest.fixture
def bundle(exported: Path) -> Bundle:
    return load_bundle(exported / "bundle")


def assert_same_scores(bundle: Bundle, cache: Cache, scores: Scores) -> None:
    """The bundle on the cache's images, study by study, against what the evaluation kept."""
    for place, row in list(enumerate(scores.row))[:12]:
        study = cache.studies[row]
        views = range(study["first_view"], study["first_view"] + study["num_views"])
        kinds = [VIEW_KINDS[cache.views["view_kind"][view]] for view in views]
        answer = bundle.score_study([np.array(cache.image(view)) for view in views], kinds)
        assert answer.findings == scores.names
        np.testing.assert_allclose(answer.logit[0], scores.logit[0, place], atol=1e-3, rtol=0)
        decided = ~np.isnan(scores.decision[0, place])
        np.testing.assert_array_equal(decided, answer.has_threshold)
        # Thresholds are scores of validation, which no test score equals.
        np.testing.assert_array_equal(answer.present[0][decided], scores.decision[0, place][decided] == 1)


def find_cell(exported: Path) -> Path:
    summary = json.loads((exported / "probe" / "probe.json").read_bytes())
    return (exported / "probe" / summary["arms"][0]["path"]).parent


def test_a_probes_bundle_says_of_studies_what_the_probe_said(
    exported: Path, bundle: Bundle, shown_cache: Cache
) -> None:
    assert_same_scores(bundle, shown_cache, read_scores(find_cell(exported) / "scores.npz"))


def test_a_fine_tuned_models_bundle_says_what_its_evaluation_said(
    exported: Path, shown_cache: Cache, tmp_path: Path
) -> None:
    tuned = tmp_path / "tuned"
    run_finetune(shown_cache.path, exported / "run", tuned, epochs=1, precision="32-true", lr=1e-2, progress=False)
    assert main(["export", str(tuned), "--out", str(tmp_path / "bundle")]) == 0
    bundle = load_bundle(tmp_path / "bundle")
    assert_same_scores(bundle, shown_cache, read_scores(tuned / "scores.npz"))
    assert bundle.about["provenance"]["head"]["kind"] == "fine-tuning"
    assert bundle.about["embedding"] == {"read": "mean", "numbers": 32}
    state, record = read_head(tuned)
    with pytest.raises(UserError, match="trained on features of other encoders"):
        main_or_raise(["export", str(exported / "run"), "--head", str(tuned), "--out", str(tmp_path / "x")])
    assert not (tmp_path / "x").exists()
    assert state["head.weight"].shape == (len(record.findings), 32)


def main_or_raise(arguments: list[str]) -> None:
    """The command without its last resort, which turns a UserError into a line on stderr."""
    from hilum.cli import COMMANDS
    from hilum.commands import terminal

    terminal.parse(COMMANDS[arguments[0]], arguments[0], arguments[1:])


def test_bundle_json_says_what_a_user_must_know(exported: Path, bundle: Bundle, shown_cache: Cache) -> None:
    about = bundle.about
    _, record = read_head(find_cell(exported))
    assert [finding["name"] for finding in about["findings"]] == [finding.name for finding in record.findings]
    edema = next(finding for finding in about["findings"] if finding["name"] == "Edema")
    assert 0 < edema["threshold"] < 1
    assert edema["test"]["auroc"]["low"] < edema["test"]["auroc"]["value"]
    assert about["thresholds"]["chosen_by"] == "best F1 on validation"
    assert about["thresholds"]["data"] == shown_cache.digest
    unknown = next(finding for finding in about["findings"] if finding["name"] == "Pneumothorax")
    assert (unknown["threshold"], unknown["learned"]) == (None, False)
    shown = about["preprocessing"]
    assert (shown["intensity_policy"], shown["short_side"], shown["height"], shown["width"]) == ("voi-1", 64, 32, 32)
    assert (shown["mean"], shown["std"]) == (shown_cache.mean, shown_cache.std)
    assert about["view_kinds"] == ["frontal", "lateral", "unknown"]
    assert about["check"]["batches"] == [1, 2, 5]
    assert max(about["check"]["largest_difference"].values()) < about["check"]["allowed_below"] == 1e-3
    assert about["licences"]["weights"] == "ours"
    assert about["licences"]["data"] == {"toy": "not stated"}
    assert set(about["files"]) == {path.name for path in bundle.path.iterdir()} - {"bundle.json"}
    assert "toy-p" not in json.dumps(about)  # how patients are called here


def test_the_kind_of_view_changes_the_answer_and_is_asked_for(bundle: Bundle, shown_cache: Cache) -> None:
    image = np.array(shown_cache.image(0))
    said = [bundle([image], [kind]).logit for kind in bundle.view_kinds]
    assert not np.allclose(said[0], said[1])
    assert not np.allclose(said[1], said[2])
    for kinds, message in (
        (None, "found none, expected one for each of 1 images"),
        (["pa"], "found 'pa', expected one of frontal"),
        (["frontal"] * 2, "found 2, expected one for each of 1"),
        ("frontal", "found 'frontal', expected one for each"),
    ):
        with pytest.raises(UserError, match=message):
            bundle([image], kinds)


def test_a_kind_that_changes_nothing_is_not_asked_for(encoder: Encoder) -> None:
    assert list_kinds(encoder) == ("frontal", "lateral", "unknown")
    with torch.no_grad():
        like = load_copy(encoder)
        like.view_embed[:] = like.view_embed[0]
    assert list_kinds(like) == ()


def load_copy(encoder: Encoder) -> Encoder:
    copy = Encoder(encoder.config)
    copy.load_state_dict(encoder.state_dict())
    return copy.eval()


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.full((64, 64), 3.0).cumsum(0), "found float64 from 3 to 192; expected grey"),
        (np.linspace(-1, 1, 4096, dtype=np.float32).reshape(64, 64), "found float32 from -1 to 1; .* normalises"),
        (np.linspace(0, 1 / 255, 4096).reshape(64, 64), "found float64 from 0 to 0.003922: divided twice"),
        (np.full((64, 64), np.nan), "found float64 from nan to nan"),
        (np.arange(4096, dtype=np.uint16).reshape(64, 64), "found uint16 from 0 to 4095: that is 12 bits or fewer"),
        (np.arange(4096).reshape(64, 64), "found int64 from 0 to 4095; expected grey"),
        (np.zeros((64, 64), np.uint8), "found uint8 from 0 to 0: one grey value everywhere"),
        (np.eye(64, dtype=np.uint8), "found uint8 from 0 to 1: all but black"),
        (np.zeros((64, 64, 3), np.uint8), r"found an array of shape \(64, 64, 3\).*Of equal colour channels take one"),
        (np.eye(20), "20 x 20 px, and the encoder reads 32 x 32"),
        ([[0, 1]], "found int64 from 0 to 1; expected grey"),
        (np.eye(64, dtype=bool), "found bool; expected grey"),
        (Image.new("P", (64, 64)), "a picture with a palette, whose numbers are no grey"),
    ],
)
def test_pixels_of_the_wrong_range_are_refused(bundle: Bundle, image: object, message: str) -> None:
    with pytest.raises(UserError, match=message):
        bundle([image], ["frontal"])


def test_the_same_image_in_any_form_has_the_same_answer(bundle: Bundle, tmp_path: Path) -> None:
    grey = np.random.default_rng(0).integers(0, 256, (96, 80), dtype=np.uint8)
    Image.fromarray(grey).save(tmp_path / "image.png")
    deep = grey * np.uint16(257)
    forms = [
        grey,
        grey / 255,
        deep,
        deep.astype(">u2"),
        bundle.read_file(tmp_path / "image.png"),
        Image.fromarray(grey),
    ]
    answers = bundle(forms, ["lateral"] * 6)
    np.testing.assert_allclose(answers.logit, np.repeat(answers.logit[:1], 6, axis=0), atol=1e-5, rtol=0)
    turned = bundle([np.ascontiguousarray(grey[:, ::-1]), np.ascontiguousarray(grey.T)], ["lateral"] * 2)
    assert np.abs(turned.logit - answers.logit[0]).max(axis=1).min() > 1e-3


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("crop", ["center", "squash"])
@pytest.mark.parametrize(("height", "width", "bits"), [(97, 140, 8), (150, 70, 16), (64, 65, 8)])
def test_images_are_prepared_as_by_cache_and_loader(
    interpolation: str, crop: str, height: int, width: int, bits: int
) -> None:
    image = np.random.default_rng(0).random((height, width), np.float32)
    kept = quantize(resize_short_side(image, 64)[0], bits)
    rectangle = place_crops(CropConfig(mode=crop), *np.array([kept.shape]).T, np.zeros(1, np.uint64))
    expected = resample(
        torch.from_numpy(kept.astype(np.int32))[None], torch.from_numpy(rectangle).float(), torch.tensor([False]),
        (32, 24), 2.0**bits - 1, interpolation,
    )  # fmt: skip
    shown = SHOWN | {"interpolation": interpolation, "crop": crop, "bits": bits, "width": 24}
    np.testing.assert_allclose(prepare_image(image, shown), expected[0].numpy(), atol=2e-6, rtol=0)


def test_a_breast_is_read_in_its_frame_from_either_side_and_the_steps_say_so(tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = ConvEncoderConfig(backbone="test_resnet", image_height=64, image_width=40, depth=0)
    about = {"mean": 0.4, "std": 0.2, "image_policy": "mammo-minmax-1/frame128x80/uint16", "crop": "squash"}
    save_conv_encoder(ConvEncoder(config), tmp_path / "weights.safetensors", about)
    subject = find_subject(tmp_path / "weights.safetensors")
    shown = describe_preprocessing(subject, build_scorer(subject, subject.load(0), None, None), None)
    assert (shown["frame"], shown["bits"], shown["crop"]) == ([128, 80], 16, "squash")
    assert "never mirrored" not in " ".join(shown["steps"])
    left, right = (draw_breast(side).astype(np.float32) / 4095 for side in ("left", "right"))
    found = prepare_image(left, shown)
    assert found.shape == (64, 40)
    np.testing.assert_array_equal(prepare_image(right, shown), found)
    assert found[32, 0] > 0.1 > found[32, -1]


def test_a_breast_that_was_stretched_is_stretched_by_the_bundle_too(tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = ConvEncoderConfig(backbone="test_resnet", image_height=64, image_width=40, depth=0)
    about = {"mean": 0.4, "std": 0.2, "image_policy": "mammo-clip-1/frame64x40/uint8", "crop": "squash"}
    save_conv_encoder(ConvEncoder(config), tmp_path / "weights.safetensors", about)
    subject = find_subject(tmp_path / "weights.safetensors")
    shown = describe_preprocessing(subject, build_scorer(subject, subject.load(0), None, None), None)
    assert "stretched to 64 x 40 px" in shown["steps"][1]
    assert "never mirrored" in shown["steps"][0]
    picture = draw_breast("right").astype(np.float32) / 4095
    expected = stretch_breast(picture, (64, 40)).pixels
    np.testing.assert_allclose(prepare_image(picture, shown), expected, atol=1 / 255)


def test_the_example_of_the_readme_runs_as_written(
    exported: Path, bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a folder that holds the bundle alone, on an image that is no square and larger than the cache keeps."""
    shutil.copytree(exported / "bundle", tmp_path / "bundle")
    monkeypatch.chdir(tmp_path / "bundle")
    grey = np.random.default_rng(1).integers(0, 256, (150, 100), dtype=np.uint8)
    Image.fromarray(grey).save("image.png")
    (example,) = re.findall(r"```python\n(.*?)```", Path("README.md").read_text(), re.DOTALL)
    assert "hilum" not in example
    assert len(example.strip().splitlines()) <= 20
    ran = subprocess.run([sys.executable, "-c", example], capture_output=True, text=True, check=True)
    said = [line.rsplit(" ", 2) for line in ran.stdout.splitlines()]
    assert [name for name, _, _ in said] == list(bundle.findings)
    expected = bundle([grey], ["frontal"]).probability[0]
    np.testing.assert_allclose([float(value) for _, value, _ in said], expected, atol=1e-5, rtol=0)


def test_reading_a_bundle_needs_no_torch(exported: Path) -> None:
    code = (
        "import sys; from hilum.export.bundle import load_bundle; "
        f"load_bundle({str(exported / 'bundle')!r}); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("name", ["model.onnx", "README.md", "timm.safetensors", "bundle.json"])
def test_a_file_that_was_changed_is_refused(exported: Path, tmp_path: Path, name: str) -> None:
    copy = shutil.copytree(exported / "bundle", tmp_path / "copy")
    content = bytearray((copy / name).read_bytes())
    content[-10] ^= 1
    if name == "bundle.json":  # still JSON, with a threshold that nobody chose
        content = (exported / "bundle" / name).read_text().replace('"threshold": 0.', '"threshold": 0.0').encode()
    (copy / name).write_bytes(content)
    with pytest.raises(UserError, match=f"{name}: (its sha256 is|was changed after the export)"):
        load_bundle(copy)
    (copy / name).unlink()
    with pytest.raises(UserError, match="is missing" if name != "bundle.json" else "no bundle: it has no bundle.json"):
        load_bundle(copy)


def test_timm_alone_reads_the_encoder(exported: Path, bundle: Bundle) -> None:
    about = bundle.about["timm"]
    vit = VisionTransformer(**about["vision_transformer"]).eval()
    vit.load_state_dict(load_file(bundle.path / about["file"]))
    encoder, _ = load_encoder(exported / "run" / "weights.safetensors")
    pixels = torch.randn(2, 1, 32, 32, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        for place, (kind, positions) in enumerate(load_file(bundle.path / about["positions"]).items()):
            assert kind in bundle.view_kinds
            vit.load_state_dict(vit.state_dict() | {"pos_embed": positions})
            number = torch.full((2,), bundle.view_kinds.index(kind))
            torch.testing.assert_close(vit.forward_features(pixels), encoder.encode(pixels, number).tokens)
            assert place < 3


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("{run}", "a bundle without one would answer at random. Train one: `hilum probe"),
        ("{run} --head {run}", r"no trained head \(no head.json\) and no probe"),
        ("{run} --head {run}/none", "there is no such folder"),
        ("{run} --head {probe} --embedding-only", "--head has no effect beside --embedding-only"),
        ("{run}/none --head {probe}", "none: there is no such file or folder"),
        ("supervised:nano --head {probe}", "random weights; there is nothing to export"),
    ],
)
def test_what_has_no_trained_head_is_refused(
    exported: Path, tmp_path: Path, command: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = command.format(run=exported / "run", probe=exported / "probe").split()
    assert main(["export", *words, "--out", str(tmp_path / "bundle")]) == 2
    assert re.search(message, capsys.readouterr().err)
    assert list(tmp_path.iterdir()) == []


def test_heads_of_risk_are_refused_by_what_they_are(tmp_path: Path) -> None:
    (tmp_path / "risk.json").write_text("{}")
    with pytest.raises(UserError, match="its heads say a risk for each year"):
        list_heads(tmp_path)


def test_a_folder_that_is_there_is_not_written_over(exported: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["export", str(exported / "run"), "--head", str(exported / "probe"), "--out", str(exported / "bundle")]
    assert main(words) == 2
    assert "exists already" in capsys.readouterr().err


@pytest.mark.parametrize(
    "content", ["", '{"arms": [{"pa', "[1]", '{"arms": []}', '{"arms": [{}], "protocol": "", "head": ""}']
)
def test_a_probe_that_is_damaged_or_something_else_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "probe.json").write_text(content)
    with pytest.raises(UserError, match=r"probe\.json: not readable as what `hilum probe` writes"):
        list_heads(tmp_path)


@pytest.mark.parametrize(("field", "value"), [("unit", "exam"), ("representation", "bogus"), ("fusion", "largest")])
def test_a_head_that_says_what_no_head_is_is_refused(exported: Path, tmp_path: Path, field: str, value: str) -> None:
    cell = shutil.copytree(find_cell(exported), tmp_path / "cell")
    said = json.loads((cell / "head.json").read_bytes()) | {field: value}
    (cell / "head.json").write_text(json.dumps(said))
    with pytest.raises(
        UserError, match=rf"head\.json: not readable as a trained head \({field}: .*, found '{value}'\)"
    ):
        read_head(cell)


def test_views_that_are_put_together_otherwise_are_not_taken_for_a_mean_of_logits(exported: Path) -> None:
    subject = find_subject(exported / "run")
    state, record = read_head(find_cell(exported))
    with pytest.raises(UserError, match="put together by mean_probability; expected mean_logit"):
        build_scorer(subject, subject.load(0), state, replace(record, fusion="mean_probability"))


def test_a_study_of_more_images_than_the_head_was_judged_on_is_refused(bundle: Bundle, shown_cache: Cache) -> None:
    few = Bundle(bundle.path, bundle.about | {"views": bundle.about["views"] | {"at_most": 1}}, bundle._session)
    image = np.array(shown_cache.image(0))
    few.score_study([image], ["frontal"])
    with pytest.raises(UserError, match="Found 2 images: this head was judged on 1 of a study at most"):
        few.score_study([image] * 2, ["frontal"] * 2)
    edema = [{**few.about["findings"][0], "threshold": 8e-6, "learned": True}]
    assert "of 1 images at most" in write_readme(few.about | {"findings": edema})
    assert "8e-06" in write_readme(few.about | {"findings": edema}), "0.000 would be every image"


def test_nothing_tells_where_a_bundle_was_made(exported: Path, bundle: Bundle) -> None:
    """The exporter of torch notes each line of code, with its folder, at each node."""
    for path in bundle.path.iterdir():
        content = path.read_bytes()
        for place in (Path(graph.__file__).parent, exported):
            assert str(place).encode() not in content, path.name
        assert b"stack_trace" not in content


def test_a_head_whose_files_do_not_belong_together_is_refused(exported: Path, tmp_path: Path) -> None:
    cell = shutil.copytree(find_cell(exported), tmp_path / "cell")
    content = bytearray((cell / "head.safetensors").read_bytes())
    content[-1] ^= 1
    (cell / "head.safetensors").write_bytes(content)
    with pytest.raises(UserError, match=r"not the tensors that head\.json tells of"):
        read_head(cell)


def test_a_graph_that_says_something_else_than_torch_is_refused(exported: Path) -> None:
    subject = find_subject(exported / "run")
    state, record = read_head(find_cell(exported))
    model = exported / "bundle" / "model.onnx"
    assert max(compare_with_torch(build_scorer(subject, subject.load(0), state, record), model).values()) < 1e-4
    state["head.bias"] += 2e-3
    with pytest.raises(UserError, match=r"ONNX and torch differ: logit by 0\.002; allowed is less than 0\.001"):
        compare_with_torch(build_scorer(subject, subject.load(0), state, record), model)


def test_a_network_that_would_freeze_the_batch_is_refused(encoder: Encoder, tmp_path: Path) -> None:
    class Freezing(ImageScorer):
        def forward(self, image: torch.Tensor, view_kind: torch.Tensor) -> tuple[torch.Tensor, ...]:
            return tuple(said + torch.zeros(len(image), 1) for said in super().forward(image, view_kind))

    with pytest.raises(UserError, match="cannot be written as ONNX"):
        write_graph(Freezing(StudyClassifier(encoder, 2), 0.4, 0.2), tmp_path / "model.onnx")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_a_full_disk_is_not_the_networks_fault(encoder: Encoder, tmp_path: Path) -> None:
    (tmp_path / "model.onnx").symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left"):
        write_graph(ImageScorer(StudyClassifier(encoder, 2).eval(), 0.4, 0.2), tmp_path / "model.onnx")
