"""The image tower of CheXagent-8b (Chen et al. 2024): EVA-g class, 40 layers, a billion parameters, 448 px.

The architecture is that of BLIP-2's image tower. The MVMAE paper calls its CheXagent baseline SigLIP ViT-L/14; its code
ran this one (M 4.3).
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
import transformers
from torch import Tensor, nn
from transformers import Blip2VisionConfig, Blip2VisionModel

from .catalogue import Weights
from .files import USUAL_NAMES, fetch, find_file, load_tensors, read_any_tensors
from .tower import CLIP_MEAN, CLIP_STD, Preprocessing, Tokens, Tower, TowerConfig, number_by_name

REPOSITORY = "StanfordAIMI/CheXagent-8b"
PREFIX = "vision_model."
LICENCE = "cc-by-nc-4.0"
LIBRARY = f"transformers {transformers.__version__}"


def build_chexagent(weights: Weights, *, image_size: int = 448, num_layers: int = 40) -> Tower:
    """The tower's tokens after its last norm. Another `image_size` or `num_layers` makes smaller ones of the kind."""
    if weights == "random":
        model = build_network(image_size, num_layers)
    else:
        with torch.device("meta"):  # a billion first values would be drawn for nothing
            model = build_network(image_size, num_layers)
        folder = _fetch_parts() if weights == "download" else weights
        assert not isinstance(folder, str), "random and download are done with"
        where = f"Download the files of huggingface.co/{REPOSITORY} with 'model' in their names into it."
        file = find_file(folder, USUAL_NAMES, where)
        load_tensors(model, read_any_tensors(file, PREFIX) or read_any_tensors(file), file)
    # As BLIP's processor: the whole image, its sides scaled apart.
    shown = Preprocessing(image_size, CLIP_MEAN, CLIP_STD, "bicubic", "squash")
    return Tower(
        model,
        TowerConfig("chexagent", shown, LICENCE, LIBRARY),
        read=_read,
        layers=number_by_name(model),
        branches=_list_branches,
    )


def build_network(image_size: int, num_layers: int) -> Blip2VisionModel:
    """The network with random weights."""
    return Blip2VisionModel(
        Blip2VisionConfig(
            hidden_size=1408,
            intermediate_size=6144,
            num_hidden_layers=num_layers,
            num_attention_heads=16,
            image_size=image_size,
            patch_size=14,
            initializer_range=0.02,  # the published value, 1e-10, is never trained from
        )
    )


def _read(model: nn.Module, pixels: Tensor) -> Tokens:
    tokens = model(pixel_values=pixels).last_hidden_state
    return Tokens(tokens[:, 0], tokens[:, 1:])


def _list_branches(model: nn.Module) -> list[tuple[nn.Module, ...]]:
    layers = model.get_submodule("encoder.layers").children()
    return [(layer.get_submodule("self_attn.projection"), layer.get_submodule("mlp")) for layer in layers]


def _fetch_parts() -> Path:
    """Only those parts of the 8 billion parameters that hold the image tower's."""
    folder = fetch(REPOSITORY, ["*.index.json"])
    index = find_file(folder, [name for name in USUAL_NAMES if name.endswith(".json")], "The repository has no index.")
    places: dict[str, str] = json.loads(index.read_bytes())["weight_map"]
    return fetch(REPOSITORY, ["*.index.json", *sorted({p for name, p in places.items() if name.startswith(PREFIX)})])
