"""`hilum weights import`, from the command to what the imported encoder computes (M 6, M 8-12).

Files and references are written from the specification alone (`layouts/`); the importer is met only as a command.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
import torch._utils
from layouts import mae, malicious, mvmae, storages, timm_files
from layouts.sizes import TINY, TINY_MAE, Sizes, State
from safetensors import safe_open

from hilum.cli import main
from hilum.model.encoder import Encoder
from hilum.model.weights import load_encoder


def run_import(file: Path, layout: str, out: Path) -> int:
    return main(["weights", "import", str(file), "--layout", layout, "--out", str(out)])


def import_encoder(file: Path, layout: str) -> tuple[Encoder, dict]:
    out = file.parent / "imported.safetensors"
    assert run_import(file, layout, out) == 0
    return load_encoder(out)


def encode(encoder: Encoder, pixels: np.ndarray, view_kind: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """The class token and the patch tokens of one image (1, height, width)."""
    with torch.no_grad():
        tokens = encoder.encode(torch.from_numpy(pixels).float()[None], torch.tensor([view_kind])).tokens[0].numpy()
    return tokens[0], tokens[1:]


def draw_pixels(sizes: Sizes, seed: int = 5) -> np.ndarray:
    """A grey image in [0, 1], (height, width)."""
    return np.random.default_rng(seed).uniform(size=(sizes.image, sizes.image))


def expect_equal(found: tuple[np.ndarray, np.ndarray], wanted: tuple[np.ndarray, np.ndarray]) -> None:
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5, rtol=0)


class Written(NamedTuple):
    """A kind of file: its layout, and how it is written from its state."""

    layout: str
    draw: Callable[[], State]
    write: Callable[[Path, State], None]
    prefix: str = ""  # of the encoder's tensors

    def put(self, folder: Path, state: State | None = None) -> tuple[Path, State]:
        state = self.draw() if state is None else state
        self.write(folder / "weights.pth", state)
        return folder / "weights.pth", state


MVMAE = {
    "with text": Written("mvmae", lambda: mvmae.draw_mvmae(TINY), mvmae.write_lightning, mvmae.ENCODER),
    "without text": Written("mvmae", lambda: mvmae.draw_mvmae(TINY, text=False), mvmae.write_lightning, mvmae.ENCODER),
    "with latent heads": Written(
        "mvmae", lambda: mvmae.draw_mvmae(TINY, latent=True), mvmae.write_lightning, mvmae.ENCODER
    ),
    "linear classifier": Written("mvmae", lambda: mvmae.draw_classifier(TINY), mvmae.write_lightning, mvmae.CLASSIFIER),
    "two-layer classifier": Written(
        "mvmae", lambda: mvmae.draw_classifier(TINY, linear=False), mvmae.write_lightning, mvmae.CLASSIFIER
    ),
}
COLOUR = {
    "mae encoder": Written("mae", lambda: mae.draw_mae(TINY_MAE), mae.write_mae),
    "mae full": Written("mae", lambda: mae.draw_mae(TINY_MAE, decoder=True), mae.write_mae),
    "medical_mae": Written("mae", lambda: mae.draw_mae(TINY_MAE, decoder=True), mae.write_medical_mae),
    "mae fine-tuned": Written("mae", lambda: mae.draw_finetuned(TINY_MAE), mae.write_medical_mae),
    "mae fine-tuned, pooled": Written("mae", lambda: mae.draw_finetuned(TINY_MAE, pooled=True), mae.write_medical_mae),
    "crossmae weighted": Written("crossmae", lambda: mae.draw_crossmae(TINY_MAE), mae.write_medical_mae),
    "crossmae with norm": Written("crossmae", lambda: mae.draw_crossmae(TINY_MAE, weighted=False), mae.write_mae),
}  # fmt: skip


def draw_timm(variant: str) -> Callable[[], State]:
    return lambda: timm_files.build_model(TINY_MAE, variant).state_dict()


TIMM = {
    f"timm {variant}": Written("timm", draw_timm(variant), timm_files.write_timm) for variant in timm_files.VARIANTS
}
GREY = [f"timm {name}" for name, settings in timm_files.VARIANTS.items() if settings.get("in_chans") == 1]
FILES = MVMAE | COLOUR | TIMM
ONE_EACH = [FILES[name] for name in ("with text", "medical_mae", "crossmae weighted", "timm plain")]
one_each = pytest.mark.parametrize("written", ONE_EACH, ids=[written.layout for written in ONE_EACH])


# What the imported encoder computes


@pytest.mark.parametrize(("name", "view_kind"), [("with text", 1), ("with text", 2), *((name, 0) for name in MVMAE)])
def test_mvmae_files_compute_what_the_specification_says(name: str, view_kind: int, tmp_path: Path) -> None:
    path, state = MVMAE[name].put(tmp_path)
    encoder, header = import_encoder(path, "mvmae")
    pixels = (draw_pixels(TINY)[None] - mvmae.MEAN) / mvmae.STD
    wanted = mvmae.encode_slowly(state, pixels, view_kind, TINY.head_width, MVMAE[name].prefix)
    expect_equal(encode(encoder, pixels, view_kind), wanted)
    assert (header["mean"], header["std"]) == (mvmae.MEAN, mvmae.STD)
    # 1e-6 and 1e-5 differ by less than the tolerance above where tokens are large.
    assert encoder.config.final_norm_eps == mvmae.FINAL_EPS
    assert (encoder.config.qk_norm, encoder.config.view_embedding, encoder.config.heads) == (True, True, 3)


@pytest.mark.parametrize("name", [*COLOUR, *(name for name in TIMM if name not in GREY)])
def test_colour_files_compute_the_same_from_one_channel(name: str, tmp_path: Path) -> None:
    """M 6.2, M 8-11: one grey channel in Hilum's normalisation is three in theirs; which theirs is, is recorded."""
    path, state = FILES[name].put(tmp_path)
    encoder, header = import_encoder(path, FILES[name].layout)
    grey = draw_pixels(TINY_MAE)
    found = encode(encoder, (grey[None] - header["mean"]) / header["std"])
    wanted = {
        statistics: mae.encode_slowly(state, mae.normalise_channels(grey, statistics), TINY_MAE.head_width)
        for statistics in (mae.IMAGENET, mae.NIH, timm_files.HALF)
    }
    nearest = min(wanted, key=lambda statistics: float(np.abs(wanted[statistics][0] - found[0]).max()))
    expect_equal(found, wanted[nearest])
    recorded = json.dumps(header)
    assert all(str(value) in recorded for value in (nearest[0][0], nearest[1][0])), f"{nearest} is not in {recorded}"
    assert (encoder.config.heads, encoder.config.qk_norm, encoder.config.final_norm_eps) == (2, False, mae.FINAL_EPS)


@pytest.mark.parametrize("name", GREY)
def test_grey_files_of_timm_compute_what_timm_does(name: str, tmp_path: Path) -> None:
    """One channel in the file: whatever normalisation the header says, the encoder gets what it was given."""
    path, state = TIMM[name].put(tmp_path)
    encoder, _ = import_encoder(path, "timm")
    pixels = draw_pixels(TINY_MAE)[None] * 2 - 1
    expect_equal(encode(encoder, pixels), mae.encode_slowly(state, pixels, TINY_MAE.head_width))


@pytest.mark.parametrize(("choice", "statistics"), [("imagenet", mae.IMAGENET), ("chest", mae.NIH)])
def test_the_files_normalisation_can_be_chosen(choice: str, statistics: tuple, tmp_path: Path) -> None:
    """M 6.2: medical_mae used both; the grey fold is exact for either."""
    path, state = COLOUR["medical_mae"].put(tmp_path)
    out = tmp_path / "out.safetensors"
    assert main(["weights", "import", str(path), "--layout", "mae", "--normalization", choice, "--out", str(out)]) == 0
    encoder, header = load_encoder(out)
    grey = draw_pixels(TINY_MAE)
    found = encode(encoder, (grey[None] - header["mean"]) / header["std"])
    expect_equal(found, mae.encode_slowly(state, mae.normalise_channels(grey, statistics), TINY_MAE.head_width))


@pytest.mark.parametrize("name", ["medical_mae", "crossmae weighted", "timm plain"])
def test_files_without_a_view_table_treat_all_views_alike(name: str, tmp_path: Path) -> None:
    path, _ = FILES[name].put(tmp_path)
    encoder, _ = import_encoder(path, FILES[name].layout)
    pixels = draw_pixels(TINY_MAE)[None]
    frontal, _ = encode(encoder, pixels, 0)
    lateral, _ = encode(encoder, pixels, 1)
    assert np.array_equal(frontal, lateral)


def test_safetensors_and_torch_files_of_timm_are_the_same(tmp_path: Path) -> None:
    state = draw_timm("plain")()
    found = []
    for suffix in ("safetensors", "pth", "bin"):
        timm_files.write_timm(tmp_path / f"weights.{suffix}", state)
        assert run_import(tmp_path / f"weights.{suffix}", "timm", tmp_path / "out.safetensors") == 0
        found.append(load_encoder(tmp_path / "out.safetensors")[0].state_dict())
    for other in found[1:]:
        assert all(torch.equal(other[name], value) for name, value in found[0].items())


@one_each
def test_half_precision_files_are_read(written: Written, tmp_path: Path) -> None:
    halves = {name: value.half() for name, value in written.draw().items()}
    path, _ = written.put(tmp_path, halves)
    half = import_encoder(path, written.layout)[0].state_dict()
    path, _ = written.put(tmp_path, {name: value.float() for name, value in halves.items()})
    whole = import_encoder(path, written.layout)[0].state_dict()
    assert all(value.dtype == torch.float32 for value in half.values())
    assert all(torch.equal(half[name], value) for name, value in whole.items())


def load_tensors(file: Path, layout: str) -> State:
    return import_encoder(file, layout)[0].state_dict()


@pytest.mark.parametrize("name", ["with text", "medical_mae"])
def test_however_tensors_are_stored_they_are_the_same(name: str, tmp_path: Path) -> None:
    path, state = FILES[name].put(tmp_path)
    wanted = load_tensors(path, FILES[name].layout)
    for storage, store in storages.STORAGES.items():
        path, _ = FILES[name].put(tmp_path, store(state))
        found = load_tensors(path, FILES[name].layout)
        assert all(torch.equal(found[key], value) for key, value in wanted.items()), storage


@pytest.mark.parametrize("name", ["with text", "medical_mae"])  # as the two ways of writing
def test_files_saved_on_a_gpu_are_read_without_one(name: str, tmp_path: Path) -> None:
    written = FILES[name]
    path, _ = written.put(tmp_path)
    wanted = load_tensors(path, written.layout)
    storages.move_to_gpu(path, tmp_path / "gpu.pth")
    found = load_tensors(tmp_path / "gpu.pth", written.layout)
    assert all(torch.equal(found[key], value) for key, value in wanted.items())


@pytest.mark.parametrize(("name", "key"), [("with text", "state_dict"), ("mae encoder", "model")])
def test_files_of_before_2020_are_read_or_refused_in_plain_words(
    name: str, key: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    path, state = FILES[name].put(tmp_path)
    wanted = load_tensors(path, FILES[name].layout)
    old, out = tmp_path / "old.pth", tmp_path / "out.safetensors"
    storages.write_old_format(old, state, key)
    if run_import(old, FILES[name].layout, out) == 0:
        found = load_encoder(out)[0].state_dict()
        assert all(torch.equal(found[key], value) for key, value in wanted.items())
    else:
        expect_refusal(old, FILES[name].layout, capsys, ("format", "torch.save"))


# Names


def rename_mvmae(name: str) -> str:
    for there, here in {
        "transformer.": "blocks.",
        "layer_norm.": "norm.",
        "patchify.": "patch_embed.proj.",
        "pos_embedding": "pos_embed",
        "mod_embedding": "view_embed",
    }.items():
        name = name.replace(there, here)
    return name


def test_every_tensor_of_mvmae_arrives_bit_for_bit_under_its_name(tmp_path: Path) -> None:
    path, state = MVMAE["with text"].put(tmp_path)
    encoder, _ = import_encoder(path, "mvmae")
    wanted = {
        rename_mvmae(name.removeprefix(mvmae.ENCODER)): value
        for name, value in state.items()
        if name.startswith(mvmae.ENCODER)
    }
    wanted["pos_embed"] = wanted["pos_embed"].transpose(0, 1)
    with safe_open(tmp_path / "imported.safetensors", framework="pt") as file:
        found = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
    assert found.keys() == wanted.keys() == encoder.state_dict().keys()
    assert all(torch.equal(found[name], value) for name, value in wanted.items())


@pytest.mark.parametrize("name", COLOUR)
def test_every_block_of_mae_arrives_bit_for_bit_under_its_name(name: str, tmp_path: Path) -> None:
    path, state = COLOUR[name].put(tmp_path)
    encoder, _ = import_encoder(path, COLOUR[name].layout)
    found = encoder.state_dict()
    kept = {key: value for key, value in state.items() if key.startswith(("blocks.", "norm."))}
    assert all(torch.equal(found[key], value) for key, value in kept.items())
    assert torch.equal(found["pos_embed"], state["pos_embed"][:, 1:])
    assert torch.equal(found["cls_token"], state["cls_token"] + state["pos_embed"][:, :1])
    made = {"cls_token", "pos_embed", "patch_embed.proj.weight", "patch_embed.proj.bias", "norm.weight", "norm.bias"}
    assert set(found) - set(kept) <= made


def test_the_size_is_read_off_the_tensors(tmp_path: Path) -> None:
    """M 2.2, MVMAE's "tiny"; the file holds one zero for each tensor, the output all of them."""
    tiny = Sizes(192, 12, 64)
    shapes = mvmae.list_encoder_shapes(tiny).items()
    state = {f"{mvmae.ENCODER}{name}": torch.zeros(1).expand(shape) for name, shape in shapes}
    torch.save({"state_dict": state}, tmp_path / "tiny.ckpt")
    config = import_encoder(tmp_path / "tiny.ckpt", "mvmae")[0].config
    assert (config.width, config.depth, config.heads, config.patch_size, config.image_size) == (192, 12, 3, 16, 224)
    assert (config.mlp_ratio, config.num_view_kinds) == (4.0, 3)


def test_the_information_on_an_imported_file_is_printed(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    path, _ = COLOUR["medical_mae"].put(tmp_path)
    out = tmp_path / "out.safetensors"
    command = ["weights", "import", str(path), "--layout", "mae", "--licence", "CC-BY-NC 4.0", "--out", str(out)]
    assert main(command) == 0
    capsys.readouterr()
    assert main(["weights", "info", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "CC-BY-NC 4.0" in printed
    assert str(TINY_MAE.width) in printed


# Files that do not fit


def expect_refusal(file: Path, layout: str, capsys: pytest.CaptureFixture, *words: str | tuple[str, ...]) -> None:
    """The command ends with 2, writes nothing, and names the file and every word (of a tuple, any one)."""
    out = file.parent / "refused.safetensors"
    capsys.readouterr()
    assert run_import(file, layout, out) == 2
    error = capsys.readouterr().err
    for word in (file.name, *words):
        any_of = (word,) if isinstance(word, str) else word
        assert any(one in error for one in any_of), f"no {word} in: {error}"
    assert not out.exists()


# What is taken out of a file, and what the refusal may call it: the file's name for it or Hilum's. The command is what
# is tried here; that every tensor is missed is in test_import_layouts.py.
ABSENT = {
    "with text": [
        *((f"{mvmae.ENCODER}transformer.{part}", (part,)) for part in ("0.norm1.bias", "1.attn.q_norm.weight")),
        (f"{mvmae.ENCODER}cls_token", ("cls_token",)),
        (f"{mvmae.ENCODER}pos_embedding", ("pos_embed",)),
        (f"{mvmae.ENCODER}mod_embedding", ("mod_embedding", "view_embed")),
        (f"{mvmae.ENCODER}patchify.bias", ("patchify.bias", "patch_embed.proj.bias")),
        (f"{mvmae.ENCODER}layer_norm.weight", ("norm.weight",)),
    ],
    **{
        name: [
            ("blocks.1.attn.proj.weight", ("1.attn.proj.weight",)),
            *((part, (part,)) for part in ("pos_embed", "patch_embed.proj.weight")),
        ]
        for name in ("medical_mae", "crossmae weighted", "timm plain")
    },
}


@pytest.mark.parametrize(
    ("name", "tensor", "called"), [(name, *pair) for name, pairs in ABSENT.items() for pair in pairs]
)
def test_a_missing_tensor_is_named(
    name: str, tensor: str, called: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    state = FILES[name].draw()
    del state[tensor]
    path, _ = FILES[name].put(tmp_path, state)
    expect_refusal(path, FILES[name].layout, capsys, called)


@one_each
def test_a_missing_block_is_no_shallower_model(written: Written, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """Depth is read off the tensors: a gap among the blocks is not a depth."""
    block = written.prefix + ("transformer.0." if written.layout == "mvmae" else "blocks.0.")
    state = {name: value for name, value in written.draw().items() if not name.startswith(block)}
    path, _ = written.put(tmp_path, state)
    expect_refusal(path, written.layout, capsys, "0.attn.qkv.weight")


def test_half_a_norm_is_no_norm_left_out(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """CrossMAE's weighted files have no norm of the encoder; one without its bias is damaged."""
    for written in (COLOUR["crossmae with norm"], COLOUR["mae full"]):
        state = written.draw()
        del state["norm.bias"]
        path, _ = written.put(tmp_path, state)
        expect_refusal(path, written.layout, capsys, "norm.bias")


def test_maes_norm_is_never_optional(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    state = {name: value for name, value in mae.draw_mae(TINY_MAE).items() if not name.startswith("norm.")}
    path, _ = COLOUR["mae encoder"].put(tmp_path, state)
    expect_refusal(path, "mae", capsys, "norm.weight")


@pytest.mark.parametrize("extra", ["surprise.weight", "blocks.0.ls1.weight", "reg_token"])
@one_each
def test_an_unknown_tensor_is_named(
    written: Written, extra: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """A tensor that nobody knows may be a part of the function, as registers are."""
    name = written.prefix + (extra.replace("blocks", "transformer") if written.layout == "mvmae" else extra)
    path, _ = written.put(tmp_path, written.draw() | {name: torch.ones(4)})
    expect_refusal(path, written.layout, capsys, extra.removeprefix("blocks."))


@pytest.mark.parametrize("variant", timm_files.UNHELD)
def test_models_of_timm_that_the_encoder_cannot_hold_are_refused(
    variant: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    settings, tensor = timm_files.UNHELD[variant]
    state = timm_files.build_model(TINY_MAE, **settings).state_dict()
    timm_files.write_timm(tmp_path / "weights.pth", state)
    expect_refusal(tmp_path / "weights.pth", "timm", capsys, tensor)


# Shapes that no model of the layout has, by file and tensor, and what the refusal must say of them.
MISSHAPEN: dict[tuple[str, str], tuple[tuple[int, ...], str | tuple[str, ...]]] = {
    ("with text", f"{mvmae.ENCODER}transformer.1.attn.proj.weight"): ((48, 47), "1.attn.proj.weight"),
    ("with text", f"{mvmae.ENCODER}transformer.0.attn.k_norm.weight"): ((12,), "0.attn.k_norm.weight"),
    ("with text", f"{mvmae.ENCODER}pos_embedding"): ((15, 1, 48), "15 positions"),  # no square
    ("with text", f"{mvmae.ENCODER}mod_embedding"): ((25, 48), ("mod_embedding", "view_kinds")),  # policy `all`, M 1.1
    ("medical_mae", "blocks.1.attn.qkv.bias"): ((128,), "1.attn.qkv.bias"),
    ("medical_mae", "pos_embed"): ((1, 18, 128), "18 positions"),
    ("medical_mae", "patch_embed.proj.weight"): ((128, 2, 8, 8), "2 channels"),
    ("medical_mae", "cls_token"): ((1, 1, 64), "cls_token"),
    ("crossmae weighted", "blocks.0.mlp.fc2.weight"): ((128, 500), "0.mlp.fc2.weight"),
    ("timm plain", "patch_embed.proj.weight"): ((128, 3, 8, 6), "8x6"),
    ("timm plain", "norm.weight"): ((2, 64), "norm.weight"),
}


@pytest.mark.parametrize(("name", "tensor"), MISSHAPEN)
def test_a_tensor_of_another_shape_is_named(
    name: str, tensor: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    shape, called = MISSHAPEN[name, tensor]
    path, _ = FILES[name].put(tmp_path, FILES[name].draw() | {tensor: torch.zeros(shape)})
    expect_refusal(path, FILES[name].layout, capsys, called)


@pytest.mark.parametrize(
    ("name", "layout"),
    [
        *(("with text", layout) for layout in ("mae", "crossmae", "timm")),
        *((name, "mvmae") for name in ("medical_mae", "crossmae weighted", "timm plain")),
        ("crossmae weighted", "mae"),
        ("crossmae weighted", "timm"),
    ],
)
def test_a_file_of_another_layout_is_refused(
    name: str, layout: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """Where names tell them apart: bare encoders of MAE, of CrossMAE with its norm and of timm have the same."""
    path, _ = FILES[name].put(tmp_path)
    expect_refusal(path, layout, capsys)


@pytest.mark.parametrize("share", [0.0, 0.5, 0.999])
@one_each
def test_a_truncated_file_is_refused(
    written: Written, share: float, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    path, _ = written.put(tmp_path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    expect_refusal(path, written.layout, capsys)


@pytest.mark.parametrize("layout", ["mvmae", "mae", "crossmae", "timm"])
def test_files_that_are_no_weights_are_refused(layout: str, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    (tmp_path / "text.pth").write_text("version https://git-lfs.github.com/spec/v1\n")
    expect_refusal(tmp_path / "text.pth", layout, capsys)
    expect_refusal(tmp_path / "absent.pth", layout, capsys)
    torch.save(torch.zeros(3), tmp_path / "tensor.pth")
    expect_refusal(tmp_path / "tensor.pth", layout, capsys)
    torch.save({"model": {"cls_token": "not a tensor"}, "state_dict": [1, 2]}, tmp_path / "odd.pth")
    expect_refusal(tmp_path / "odd.pth", layout, capsys)
    (tmp_path / "folder.pth").mkdir()
    expect_refusal(tmp_path / "folder.pth", layout, capsys)


@one_each
def test_an_existing_output_survives_a_refusal(written: Written, tmp_path: Path) -> None:
    path, _ = written.put(tmp_path)
    out = tmp_path / "out.safetensors"
    assert run_import(path, written.layout, out) == 0
    before = out.read_bytes()
    path.write_bytes(path.read_bytes()[:1000])
    assert run_import(path, written.layout, out) == 2
    assert out.read_bytes() == before


# Files that would run something


@pytest.mark.parametrize(
    ("name", "attack"),
    [
        *(("with text", attack) for attack in malicious.ATTACKS),
        *((name, "os.system") for name in ("medical_mae", "crossmae weighted", "timm plain")),
    ],
)
def test_an_attack_is_refused_by_the_name_of_what_it_calls(
    name: str, attack: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    called, build = malicious.ATTACKS[attack]
    marker, path = tmp_path / "marker", tmp_path / "evil.pth"
    malicious.put_in_front(FILES[name].put(tmp_path)[0], path, build(marker))
    expect_refusal(path, FILES[name].layout, capsys, called)
    assert not marker.exists()


@pytest.mark.parametrize("place", ["in hyper_parameters", "in the state", "beside it"])
def test_an_object_that_reduces_to_a_call_is_refused_wherever_it_is(
    place: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    marker, path = tmp_path / "marker", tmp_path / "evil.ckpt"
    state, touch = mvmae.draw_mvmae(TINY), malicious.Touch(marker)
    if place == "in hyper_parameters":
        mvmae.write_lightning(path, state, evaluator={"heads": [({"deep": touch},)]})
    elif place == "in the state":
        mvmae.write_lightning(path, state | {f"{mvmae.ENCODER}cls_token": touch})
    else:
        torch.save({"state_dict": state, "callbacks": touch}, path)
    expect_refusal(path, "mvmae", capsys, "system")
    assert not marker.exists()


@pytest.mark.parametrize("layout", ["mvmae", "timm"])
@pytest.mark.parametrize("write", [malicious.write_plain_pickle, malicious.write_old_format])
def test_malicious_files_of_older_formats_are_refused(
    write, layout: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    marker, path = tmp_path / "marker", tmp_path / "evil.ckpt"
    write(path, marker)
    expect_refusal(path, layout, capsys)
    assert not marker.exists()


@one_each
def test_no_module_is_imported_because_a_file_mentions_it(
    written: Written, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A class of an unknown project is replaced unseen, also where a module of that name could be found."""
    marker, path = tmp_path / "marker", tmp_path / "evil.pth"
    malicious.plant_module(tmp_path / "planted", "torch_storage_planted", marker)
    monkeypatch.syspath_prepend(tmp_path / "planted")
    malicious.put_in_front(written.put(tmp_path)[0], path, malicious.mention("torch_storage_planted", "Rebuilt"))
    assert run_import(path, written.layout, tmp_path / "out.safetensors") in (0, 2)
    assert not marker.exists()
    assert "torch_storage_planted" not in sys.modules


@one_each
def test_a_file_changes_no_function_of_torch(written: Written, tmp_path: Path) -> None:
    path = tmp_path / "evil.pth"
    attack = malicious.set_attribute("torch._utils", "_rebuild_tensor_v2", "altered")
    malicious.put_in_front(written.put(tmp_path)[0], path, attack)
    assert run_import(path, written.layout, tmp_path / "out.safetensors") in (0, 2)
    assert not hasattr(torch._utils._rebuild_tensor_v2, "altered")
