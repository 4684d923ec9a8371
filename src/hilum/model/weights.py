"""An encoder on disk: one safetensors file whose metadata says how it was built and what pixels it wants.

Tensor names are timm's (M 6.1). The metadata is one JSON text under the key "hilum"; its `sha256` is of the tensors, so
that weights that are not what was written are never evaluated (P 12 item 13). Files of earlier versions have none.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from hilum.atomic import write_atomic
from hilum.config import EncoderConfig
from hilum.errors import UserError
from hilum.wording import say_no_file

from .encoder import Encoder
from .normalization import fold_normalization
from .places import TEACHER_FORMATS, find_weights, read_format

FORMAT = "hilum-encoder-1"
_CONFIG = TypeAdapter(EncoderConfig)


def save_encoder(encoder: Encoder, path: Path, metadata: Mapping[str, Any]) -> None:
    """Write the encoder's weights in 32 bit, its config, and `metadata`; the same weights give the same bytes.

    metadata: what JSON can hold: `mean` and `std` of the pixels in [0, 1] it was trained on, `image_policy` of the
        cache (None: not known, any is read), `data_digest`, and what else the reader should know.
    """
    weights = {name: value.detach().float().cpu().contiguous() for name, value in encoder.state_dict().items()}
    config = _CONFIG.dump_python(encoder.config, mode="json")
    write_tensors(path, weights, {"format": FORMAT, "encoder": config, **metadata})


def load_encoder(path: Path) -> tuple[Encoder, dict[str, Any]]:
    """The encoder in evaluation mode, as it was saved, and its metadata.

    Raises:
        UserError: not such a file, of a format that this version does not know, weights that do not fit its config, or
            that are not what was written.
    """
    (config, header), weights = read_header(path), read_own_tensors(path)
    with torch.device("meta"):  # shapes only: first values would be drawn for nothing
        encoder = Encoder(config)
    if misfits := _list_misfits(encoder, weights):
        raise UserError(f"{path}: its weights do not fit its own config: {'; '.join(misfits)}. Copy the file again.")
    check_content(path, header, weights)
    encoder.load_state_dict(weights, assign=True)
    return encoder.eval(), header


def load_weights_into(
    encoder: Encoder, path: Path, *, mean: float, std: float, any_norm_eps: bool = False
) -> tuple[str, ...]:
    """Replace an encoder's weights by a file's: the start of a run from an earlier one. All tensors or none.

    The encoder starts as the same function of the image: where the file's pixels are normalised by other numbers than
    `mean` and `std`, the patch embedding is folded (M 6.2), and a view table that the file does not have is zero.

    Args:
        mean, std: of the pixels in [0, 1] that the run normalises by.
        any_norm_eps: the epsilons of LayerNorms may be others than the file's; then it is not quite the same function.

    Returns:
        Names of tensors that the file does not have and that start at zero.

    Raises:
        UserError: not a file of `save_encoder`, another architecture (names the settings and tensors that differ), or
            tensors that are not what was written.
    """
    (config, about), weights = read_header(path), read_own_tensors(path)
    zero: tuple[str, ...] = ()
    if encoder.view_embed is not None and not config.view_embedding and "view_embed" not in weights:
        num_kinds, zero = encoder.config.num_view_kinds, ("view_embed",)
        config = replace(config, view_embedding=True, num_view_kinds=num_kinds)
        weights["view_embed"] = torch.zeros(num_kinds, config.width)
    there, here = asdict(config), asdict(encoder.config)
    # How first values are drawn is no part of what they become. The rest is, also where every shape is the same.
    free = ("init", *(("block_norm_eps", "final_norm_eps") if any_norm_eps else ()))
    differing = [name for name in there if there[name] != here[name] and name not in free]
    if differing:
        misfits = [f"encoder.{name} is {there[name]} there and {here[name]} here" for name in differing]
        misfits += _list_misfits(encoder, weights)
        flags = " ".join(_name_flag(name, there[name]) for name in differing)
        raise UserError(
            f"{path}: weights of another architecture: {'; '.join(misfits)}. "
            f"Add {flags} to the command, or start from other weights."
        )
    if misfits := _list_misfits(encoder, weights):
        raise UserError(f"{path}: its weights do not fit its own config: {'; '.join(misfits)}. Copy the file again.")
    check_content(path, about, {name: value for name, value in weights.items() if name not in zero})
    if (about["mean"], about["std"]) != (mean, std):
        weights |= _renormalize(weights, about["mean"], about["std"], mean, std)
    encoder.load_state_dict(weights)
    return zero


def _renormalize(
    weights: Mapping[str, Tensor], old_mean: float, old_std: float, mean: float, std: float
) -> dict[str, Tensor]:
    """The patch embedding under another normalisation; three channels hold the same and stay three."""
    names = ("patch_embed.proj.weight", "patch_embed.proj.bias")
    weight, bias = (weights[name] for name in names)
    channels = weight.shape[1]
    folded, moved = fold_normalization(weight, bias, [old_mean] * channels, [old_std] * channels, mean, std)
    if channels > 1:
        folded = (weight.double() * (std / old_std)).float()
    return dict(zip(names, (folded, moved), strict=True))


def _name_flag(name: str, value: Any) -> str:
    flag = name.replace("_", "-")
    if isinstance(value, bool):
        return f"--encoder.{flag}" if value else f"--encoder.no-{flag}"
    return f"--encoder.{flag} {value}"


def read_metadata(path: Path) -> dict[str, Any]:
    """What Hilum wrote into a weights file beside the tensors; nothing where it did not write the file."""
    with _open(path) as file:
        return json.loads((file.metadata() or {}).get("hilum", "{}"))


def read_header(path: Path) -> tuple[EncoderConfig, dict[str, Any]]:
    """The config and the metadata of an encoder's file, without its weights.

    Raises:
        UserError: not such a file, or of a format that this version does not know.
    """
    header = read_metadata(path)
    if teacher := TEACHER_FORMATS.get(header.get("format", "")):
        raise UserError(
            f"{path}: {teacher}, which reads no images. `hilum embed` makes vectors by it, for `hilum pretrain pacx "
            "--teachers`."
        )
    if str(header.get("format")).startswith("hilum-conv-encoder"):
        raise UserError(
            f"{path}: a convolutional encoder of recipe {header.get('recipe')}; expected a vision transformer, which "
            "is what this command reads. Python reads it by hilum.model.conv_weights.load_conv_encoder."
        )
    if header.get("format") != FORMAT:
        raise UserError(
            f"{path}: not an encoder written by Hilum (its format is {header.get('format')!r}, not {FORMAT!r}). "
            "Give a run folder, or the weights.safetensors in it."
        )
    try:
        return _CONFIG.validate_python(header["encoder"]), header
    except ValidationError as error:
        first = error.errors()[0]
        raise UserError(
            f"{path}: encoder.{'.'.join(map(str, first['loc']))}: {first['msg']}. "
            "Was it written by another version of Hilum?"
        ) from error


def write_tensors(path: Path, tensors: dict[str, Tensor], header: Mapping[str, Any]) -> None:
    """Write tensors, and as metadata the header with their `sha256`; the same content gives the same bytes."""
    text = json.dumps({**header, "sha256": hash_tensors(tensors)}, sort_keys=True)
    write_atomic(path, save(tensors, metadata={"hilum": text}))


def read_own_tensors(path: Path) -> dict[str, Tensor]:
    """All tensors of a file of `write_tensors` as they are stored, not yet checked (`check_content`); files of others,
    too, are read by `towers.files.read_any_tensors`."""
    with _open(path) as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict


def hash_tensors(tensors: Mapping[str, Tensor]) -> str:
    """sha256 of all tensors, names, kinds and shapes included."""
    digest = hashlib.sha256()
    for name, value in sorted(tensors.items()):
        array = value.numpy()
        digest.update(repr((name, array.dtype.str, array.shape)).encode() + array.tobytes())
    return digest.hexdigest()


def check_content(path: Path, header: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
    """Raise a UserError where a file's tensors are not those that its metadata say it was written with."""
    if "sha256" in header and hash_tensors(tensors) != header["sha256"]:
        raise UserError(f"{path}: its content is not what was written (the checksum differs). Copy it again.")


@contextmanager
def _open(path: Path) -> Generator[Any]:
    if not path.is_file():
        raise UserError(f"{path}: {say_no_file(path)}; expected an encoder's weights.safetensors.")
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except (SafetensorError, ValueError) as error:
        raise UserError(
            f"{path}: not a whole safetensors file ({error}); expected an encoder's weights.safetensors. "
            "Copy it again, or give a run folder."
        ) from error


def _list_misfits(encoder: Encoder, weights: Mapping[str, Tensor]) -> list[str]:
    """Tensors of other shapes, missing ones and unknown ones: their number and the first names. Empty: all fit."""
    own = encoder.state_dict()
    missing, unexpected = [own.keys() - weights.keys(), weights.keys() - own.keys()]
    unlike = [name for name in own if name in weights and own[name].shape != weights[name].shape]
    shapes = [f"{name} is {name_shape(weights[name])} and not {name_shape(own[name])}" for name in unlike]
    found = [
        (shapes, f"{len(unlike)} of {len(own)} tensors of another shape"),
        ([name for name in own if name in missing], f"{len(missing)} missing"),
        ([name for name in weights if name in unexpected], f"{len(unexpected)} unknown"),
    ]
    return [f"{count} ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})" for names, count in found if names]


def name_shape(tensor: Tensor) -> str:
    """Such as "768x1x16x16"."""
    return "x".join(map(str, tensor.shape))


def describe_weights(path: Path) -> str:
    """A few lines on a weights file, or on the run folder it is in: architecture, pixels, what it learned from."""
    if teacher := TEACHER_FORMATS.get(read_format(find_weights(path))):
        return _describe_teacher(teacher, read_metadata(find_weights(path)))
    encoder, about = load_encoder(find_weights(path))
    config, seen = encoder.config, about.get("pretraining", {})
    num_parameters = sum(parameter.numel() for parameter in encoder.parameters())
    lines = [
        f"vision transformer, width {config.width}, {config.depth} blocks, {config.heads} heads, "
        f"{num_parameters:,} parameters in {len(encoder.state_dict())} tensors",
        f"reads {config.image_size} x {config.image_size} px, one channel in [0, 1] by image policy "
        f"{about.get('image_policy') or 'not stated'}, then (pixel - {about.get('mean'):.4f}) / {about.get('std'):.4f}",
    ]
    if "num_views" in seen:
        lines.append(
            f"pretrained on {seen['num_views']:,} images of {seen['num_studies']:,} studies of {seen['num_groups']:,} "
            f"patients ({', '.join(seen['datasets'])}); digest of the patients {seen['groups_digest'][:16]}"
        )
    lines += [
        f"imported from {origin['file']} (layout {origin['layout']}, sha256 {origin['sha256'][:16]}; licence "
        f"{origin['licence']}), which does not list the patients and images it was pretrained on"
        for origin in seen.get("imported_weights", ())
    ]
    if imported := about.get("imported"):
        lines += [f"  {note}" for note in imported["notes"]]
    if tuned := about.get("finetuning"):
        rows = f"{tuned['num_rows']:,} {tuned['unit']}" if "unit" in tuned else f"{tuned['num_studies']:,} studies"
        lines.append(f"fine-tuned on task {tuned['task']} of {rows}")
    if start := about.get("initial_weights"):
        lines.append(f"started from {start['file']} (sha256 {start['sha256'][:16]})")
    return "\n".join(lines)


def _describe_teacher(teacher: str, about: Mapping[str, Any]) -> str:
    """The same of a teacher: what it is and what it learned from."""
    seen = about.get("pretraining") or about["about"]["pretraining"]
    num, unit = (seen["num_records"], "records") if "num_records" in seen else (seen["num_rows"], "studies")
    settings = about.get("encoder") or about["config"]
    shown = ", ".join(f"{name} {value}" for name, value in settings.items() if not isinstance(value, dict))
    return f"{teacher}: {shown}\ntrained on {num:,} {unit} of {seen['num_patients']:,} patients"
