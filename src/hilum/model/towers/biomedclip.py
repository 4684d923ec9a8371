"""BiomedCLIP's image tower (Zhang et al. 2023): ViT-B/16, trained on 15 million figures and captions of papers."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from .catalogue import Weights
from .files import fetch, find_file, load_tensors, read_any_tensors
from .timm_model import LIBRARY, build_from_timm, build_vit_base, list_timm_branches, project
from .tower import CLIP_MEAN, CLIP_STD, HEAD, Preprocessing, Tower, TowerConfig

REPOSITORY = "microsoft/BiomedCLIP-PubMedBERT_256-vit_base_patch16_224"
_FILES = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin", "weights.safetensors")
# What names begin with in open_clip's file, and in one that Hilum fine-tuned.
TRUNK, PROJECTION = ("visual.trunk.", "trunk.", ""), ("visual.head.proj.", "projection.")
# Its own recipe; the published comparison squashed images and resampled bilinearly (M 1.5).
_PREPROCESSING = Preprocessing(224, CLIP_MEAN, CLIP_STD, "bicubic", "center")


def build_biomedclip(weights: Weights, *, num_layers: int = 12) -> Tower:
    """The trunk's tokens, 768 numbers each. Another `num_layers` makes a smaller one of the kind."""
    trunk = build_vit_base(num_layers)
    load_biomedclip(trunk, weights, TRUNK)
    return build_from_timm(trunk, TowerConfig("biomedclip", _PREPROCESSING, "mit", LIBRARY))


def build_biomedclip_projected(weights: Weights, *, num_layers: int = 12) -> Tower:
    """The tokens mapped to the 512 numbers in which images meet captions: the class token's is what the published
    comparison took as feature (M 4.3)."""
    model = nn.ModuleDict({"trunk": build_vit_base(num_layers), "projection": nn.Linear(768, 512, bias=False)})
    load_biomedclip(model["trunk"], weights, TRUNK)
    load_biomedclip(model["projection"], weights, PROJECTION)
    trunk = build_from_timm(model["trunk"], TowerConfig("biomedclip", _PREPROCESSING, "mit", LIBRARY))
    layers = {f"trunk.{name}": trunk.number_layer(name) for name, _ in model["trunk"].named_parameters()}
    return Tower(
        model,
        TowerConfig("biomedclip-projected", _PREPROCESSING, "mit", LIBRARY),
        read=project,
        layers=layers | {"projection.weight": trunk.depth + 1, HEAD: trunk.depth + 1},
        branches=lambda model: list_timm_branches(model.get_submodule("trunk")),
    )


def load_biomedclip(model: nn.Module, weights: Weights, prefixes: Sequence[str]) -> None:
    """Fill one part from open_clip's file, which holds the text tower too."""
    if weights == "random":
        return
    folder = fetch(REPOSITORY, _FILES[:2]) if weights == "download" else weights
    assert not isinstance(folder, str), "random and download are done with"
    file = find_file(folder, _FILES, f"Download {_FILES[1]} of huggingface.co/{REPOSITORY} into it.")
    tensors = next((found for prefix in prefixes if (found := read_any_tensors(file, prefix))), {})
    load_tensors(model, tensors, file)
