"""A frozen encoder that learns by low-rank updates of its linear layers (LoRA, Hu et al. 2022; P 2.1).

peft's layers take the place of the encoder's own, in place: names, `encode` and everything else about it stay. Merged,
the updates are part of the weights, and nothing tells that they were ever apart.
"""

from __future__ import annotations

import copy

import torch
from torch import nn

from hilum.config import LowRankAdapter

from .encoder import Encoder

_PLACES = {"qkv": "attn.qkv", "proj": "attn.proj", "fc1": "mlp.fc1", "fc2": "mlp.fc2"}


def add_adapter(encoder: Encoder, config: LowRankAdapter) -> None:
    """Freeze the encoder but for the chosen norms, and add updates, which start at zero, to the chosen layers.

    The first values of the updates are drawn from torch's default generator.
    """
    from peft import LoraConfig, inject_adapter_in_model  # seconds, which other runs are spared

    places = "|".join(_PLACES[name].replace(".", r"\.") for name in config.targets)
    lora = LoraConfig(
        r=config.rank,
        lora_alpha=config.alpha,  # ty: ignore[invalid-argument-type] - any number divides
        lora_dropout=config.dropout,
        target_modules=rf"blocks\.\d+\.({places})",
        bias="none",
    )
    inject_adapter_in_model(lora, encoder)  # which freezes everything else
    for norm in list_norms(encoder, config.train_norms):
        norm.requires_grad_(True)


def list_norms(encoder: Encoder, which: str) -> list[nn.LayerNorm]:
    """final: the last one; all: those within blocks, of queries and keys too, and the last one; none."""
    if which == "final":
        return [encoder.norm]
    return [module for module in encoder.modules() if isinstance(module, nn.LayerNorm)] if which == "all" else []


@torch.no_grad()
def merge_adapter(encoder: Encoder) -> Encoder:
    """A plain encoder that computes the same; one without updates is returned as it is."""
    if not any("lora_" in name for name, _ in encoder.named_parameters()):
        return encoder
    from peft.tuners.lora import LoraLayer

    plain = copy.deepcopy(encoder)
    for name, module in list(plain.named_modules()):
        if isinstance(module, LoraLayer):
            module.merge()
            plain.set_submodule(name, module.get_base_layer())
    return plain


def count_trained(model: nn.Module) -> int:
    """Parameters that are trained."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


def list_own_tensors(encoder: Encoder) -> list[str]:
    """Names of the encoder's tensors but for those of updates."""
    return [name for name in encoder.state_dict() if ".lora_" not in name]
