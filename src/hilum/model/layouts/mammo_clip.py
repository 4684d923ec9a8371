"""The image tower of Mammo-CLIP's checkpoints, EfficientNet-B2 or B5, under timm's names (L 5.3: the user's own file).

A checkpoint has the state dict in `model`; names of the image tower begin with `image_encoder.`, and go on as in the
package efficientnet-pytorch, which numbers blocks without stages. timm's `tf_efficientnet` is the same network: the
padding of TensorFlow, and epsilons of 1e-3.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import timm
import torch
from torch import Tensor

from hilum.errors import UserError

PREFIX = "image_encoder."
# (Blocks, channels of the last map) -> timm's name.
BACKBONES = {(23, 1408): "tf_efficientnet_b2", (39, 2048): "tf_efficientnet_b5"}
MEAN, STD = 0.3089279, 0.25053556  # of pixels in [0, 1] by least and largest value of each image (L 1.1)

_ENDS = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2"}
_SQUEEZE = {"_se_reduce": "se.conv_reduce", "_se_expand": "se.conv_expand"}
_FIRST = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2", **_SQUEEZE}
_OTHERS = {
    **{"_expand_conv": "conv_pw", "_bn0": "bn1", "_depthwise_conv": "conv_dw", "_bn1": "bn2"},
    **{"_project_conv": "conv_pwl", "_bn2": "bn3", **_SQUEEZE},
}


@dataclass(frozen=True)
class MammoClipTower:
    """The tower's tensors, in 32 bit, by timm's names."""

    backbone: str
    tensors: dict[str, Tensor]
    left_out: tuple[str, ...]  # names in the file that are not the tower's, or its classifier's


def read_mammo_clip(state: Mapping[str, Tensor]) -> MammoClipTower:
    """The image tower out of a state dict.

    Raises:
        UserError: it has none, one of another network, not all of it, or more.
    """
    tower = {name.removeprefix(PREFIX): value for name, value in state.items() if name.startswith(PREFIX)}
    classifier = [name for name in tower if name.startswith("_fc.")]
    left_out = (*(name for name in state if not name.startswith(PREFIX)), *(PREFIX + name for name in classifier))
    for name in classifier:
        del tower[name]
    if "_conv_head.weight" not in tower:
        first = ", ".join(list(state)[:3])
        raise UserError(
            f"no EfficientNet of Mammo-CLIP in it: found {first}, ..., expected {PREFIX}_conv_head.weight and others."
        )
    num_blocks = 1 + max(int(name.split(".")[1]) for name in tower if name.startswith("_blocks."))
    channels = len(tower["_conv_head.weight"])
    backbone = BACKBONES.get((num_blocks, channels))
    if backbone is None:
        raise UserError(
            f"its EfficientNet has {num_blocks} blocks and {channels} channels; expected B2 (23, 1408) or B5 (39, "
            "2048)."
        )
    with torch.device("meta"):
        own = timm.create_model(backbone, num_classes=0).state_dict()
    found = {_rename(name, _list_blocks(own)): value for name, value in tower.items()}
    _check_fit(own, found)
    return MammoClipTower(
        backbone,
        {name: found[name].float() if own[name].is_floating_point() else found[name] for name in own if name in found},
        left_out,
    )


def _list_blocks(names: Mapping[str, Tensor]) -> list[str]:
    """timm's names of the blocks in their order, such as "blocks.1.0"."""
    return list(dict.fromkeys(".".join(name.split(".")[:3]) for name in names if name.startswith("blocks.")))


def _rename(name: str, blocks: list[str]) -> str:
    """timm's name of a tensor; one that nobody knows keeps its own."""
    part, _, rest = name.partition(".")
    if part in _ENDS:
        return f"{_ENDS[part]}.{rest}"
    if part != "_blocks":
        return name
    number, layer, rest = rest.split(".", 2)
    block = blocks[int(number)]
    known = _FIRST if block.startswith("blocks.0.") else _OTHERS
    return f"{block}.{known[layer]}.{rest}" if layer in known else name


def _check_fit(own: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> None:
    """Every tensor in its shape, but for counters that old files lack; and none besides."""
    lacking = [name for name in own if name not in found and not name.endswith("num_batches_tracked")]
    unknown = [name for name in found if name not in own]
    unlike = [name for name in own if name in found and own[name].shape != found[name].shape]
    for names, what in ((lacking, "missing"), (unknown, "unknown"), (unlike, "of another shape")):
        if names:
            raise UserError(f"{len(names)} tensors of its image tower are {what}: {', '.join(names[:3])}, ....")
