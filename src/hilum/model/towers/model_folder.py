"""Any image encoder in a folder that transformers wrote: config.json, weights, preprocessor_config.json."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor, nn
from transformers import AutoConfig, AutoImageProcessor, AutoModel

from hilum.errors import UserError
from hilum.model.image_encoder import Interpolation

from .catalogue import Weights
from .files import USUAL_NAMES, find_file, load_tensors, read_any_tensors, read_licence
from .timm_model import flatten_map
from .tower import Preprocessing, Tokens, Tower, TowerConfig, number_by_name

LIBRARY = f"transformers {transformers.__version__}"
_RESAMPLING: dict[int, Interpolation] = {2: "bilinear", 3: "bicubic"}  # Pillow's numbers


def build_model_folder(folder: Path, weights: Weights) -> Tower:
    """The encoder in the folder; of a model of images and texts, its image part. `weights` is the folder itself, or
    the file of a fine-tuning that started from it.

    Raises:
        UserError: no such folder, code in it that would have to be executed, or preprocessing that Hilum does not have.
    """
    if not (folder / "config.json").is_file():
        raise UserError(f"{folder}: expected a folder with config.json, weights and preprocessor_config.json.")
    lacking: list[str] = []
    try:
        if weights == folder:  # by transformers, which knows how names of tensors changed over its versions
            found = AutoModel.from_pretrained(
                folder, local_files_only=True, dtype=torch.float32, output_loading_info=True
            )
            model, lacking = found[0], sorted({*found[1]["missing_keys"], *map(str, found[1]["mismatched_keys"])})
        else:
            model = AutoModel.from_config(AutoConfig.from_pretrained(folder, local_files_only=True))
        processor = AutoImageProcessor.from_pretrained(folder, local_files_only=True, backend="torchvision")
    except (OSError, ValueError, ImportError) as error:
        raise UserError(
            f"{folder}: transformers cannot read it ({str(error).splitlines()[0]}). Models that bring code of their "
            "own are not run."
        ) from error
    if hasattr(model, "vision_model"):
        model, lacking = model.vision_model, [name for name in lacking if name.startswith("vision_model.")]
    if lacking := [name for name in lacking if "pooler" not in name]:
        raise UserError(
            f"{folder}: its weights do not fit its config.json: {len(lacking)} missing or of another shape "
            f"({', '.join(lacking[:3])}). Copy the folder again."
        )
    if (pooler := getattr(model, "pooler", None)) is not None and list(pooler.parameters()):
        model.pooler = None  # of another use: it would be trained by nothing
    if weights not in ("random", folder):
        assert not isinstance(weights, str), "a folder is not downloaded"
        file = find_file(weights, USUAL_NAMES, "Give the weights.safetensors of a fine-tuning.")
        load_tensors(model, read_any_tensors(file), file)
    shown = read_processor(processor, folder)
    # Not the folder's place: results do not name places on a machine.
    about = TowerConfig(f"hf:{folder.resolve().name}", shown, read_licence(folder), LIBRARY)
    return Tower(model, about, read=read_output, layers=number_by_name(model))


def read_output(model: nn.Module, pixels: Tensor) -> Tokens:
    """Tokens of a transformers model: `last_hidden_state`, of which patches are the last row x column tokens."""
    out = model(pixel_values=pixels).last_hidden_state
    if out.ndim == 4:
        return Tokens(None, flatten_map(out))
    patch_size = getattr(model.config, "patch_size", None)
    if not isinstance(patch_size, int):
        return Tokens(None, out)  # stages that merge patches, without a class token
    num_patches = (pixels.shape[2] // patch_size) * (pixels.shape[3] // patch_size)
    if out.shape[1] < num_patches:
        return Tokens(None, out)
    return Tokens(out[:, 0] if out.shape[1] > num_patches else None, out[:, out.shape[1] - num_patches :])


def read_processor(processor: Any, folder: Path) -> Preprocessing:
    """What the image processor of the folder does to images.

    Raises:
        UserError: it does not resize to squares, or resamples in another way than bilinear or bicubic.
    """
    size = {name: value for name, value in dict(processor.size or {}).items() if value is not None}
    cut = {name: value for name, value in dict(processor.crop_size or {}).items() if value is not None}
    resampling = _RESAMPLING.get(_number_resampling(processor.resample))
    crops = bool(processor.do_center_crop and cut)
    resized = size.get("height") or size.get("shortest_edge")
    is_square = size.get("height") == size.get("width") and cut.get("height") == cut.get("width")
    if not processor.do_resize or not resized or not is_square or resampling is None:
        raise UserError(
            f"{folder / 'preprocessor_config.json'}: resizes {size or 'nothing'}, crops {cut or 'nothing'}, resamples "
            f"by {processor.resample}; expected squares, and bilinear or bicubic."
        )
    share = getattr(processor, "crop_pct", None)
    side = cut["height"] if crops else resized
    if share and "shortest_edge" in size and resized < 384:  # ConvNeXt's: the crop is stated as a share
        resized, side = int(resized / share), resized
    scale = (processor.rescale_factor or 1) * 255 if processor.do_rescale else 255.0
    mean, std = (processor.image_mean, processor.image_std) if processor.do_normalize else ((0.0,) * 3, (1.0,) * 3)
    return Preprocessing(
        size=side,
        mean=tuple(value / scale for value in mean),
        std=tuple(value / scale for value in std),
        interpolation=resampling,
        crop="center" if "shortest_edge" in size else "squash",
        resized=resized if resized != side else None,
    )


def _number_resampling(resample: Any) -> int:
    """Pillow's number of a way to resample; torchvision names them."""
    if isinstance(resample, int):
        return int(resample)
    return {"bilinear": 2, "bicubic": 3}.get(getattr(resample, "value", resample), -1)
