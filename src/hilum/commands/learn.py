"""Pretraining, and weights from elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

from tyro.conf import Positional

from hilum.commands.terminal import run_action
from hilum.errors import UserError
from hilum.ranges import Count


def pretrain(arguments: Sequence[str]) -> int:
    """Learn an encoder from whole studies by a recipe."""
    from hilum.commands.pretrain import run_pretrain

    return run_pretrain(arguments)


def weights(arguments: Sequence[str]) -> int:
    """Import published weights, or say what a weights file holds."""
    return run_action("weights", weights.__doc__, "FILE", WEIGHTS, arguments)


def weights_import(
    file: Positional[Path],
    layout: Literal["mvmae", "mae", "crossmae", "timm", "mammo-clip"],
    out: Path,
    image_size: Count | None = None,
    heads: Count | None = None,
    normalization: Literal["auto", "imagenet", "chest", "given"] = "auto",
    mean: tuple[float, ...] = (),
    std: tuple[float, ...] = (),
    licence: str = "not stated",
) -> int:
    """Make an encoder's published weights a weights file that embed, probe, finetune and pretrain --init read.

    Args:
        file: Checkpoint: .safetensors, .pth, .pt, .ckpt, .bin. Nothing in it is run.
        layout: Whose names its tensors have. mvmae: its Lightning or classifier file; mae: also medical_mae's files;
            mammo-clip: the image tower of a checkpoint of Mammo-CLIP, which no other setting but --licence is for.
        out: Weights file to write (.safetensors).
        image_size: Side of the square it is to read, in pixels; positions are resized. By default as in the file.
        heads: Attention heads; by default 64 numbers wide, or as is usual at its width.
        normalization: What its pixels in [0, 1] were normalised by. imagenet: ImageNet's three means; chest: 0.5056 and
            0.252; given: --mean and --std; auto: those, or imagenet for three channels and chest for one.
        mean: Mean of its pixels, of all channels or each.
        std: Standard deviation of its pixels, of all channels or each.
        licence: What its publishers allow, such as "CC-BY-NC 4.0"; kept with the weights and all that starts from them.
    """
    from hilum.model.places import find_checkpoint

    find_checkpoint(file)  # before torch, which takes seconds to import
    if layout == "mammo-clip":
        unused = {
            "--heads": heads, "--image-size": image_size, "--normalization": normalization != "auto", "--mean": mean,
            "--std": std,
        }  # fmt: skip
        for flag, given in unused.items():
            if given:
                raise UserError(f"{flag} has no effect on --layout mammo-clip, of which it is known: leave it out.")
        from hilum.model.import_conv_weights import import_mammo_clip

        import_mammo_clip(file, out, licence=licence)
        return 0
    from hilum.model.import_weights import import_weights

    import_weights(
        file,
        out,
        layout=layout,
        heads=heads,
        image_size=image_size,
        normalization=normalization,
        mean=mean,
        std=std,
        licence=licence,
    )
    return 0


def weights_info(file: Positional[Path]) -> int:
    """Say what a weights file holds: architecture, preprocessing, where it was trained.

    Args:
        file: A weights.safetensors, or the run folder it is in.
    """
    from hilum.model.places import find_weights

    find_weights(file)  # before torch, which takes seconds to import
    from hilum.model.weights import describe_weights

    print(describe_weights(file))
    return 0


# What `hilum weights` does.
WEIGHTS: dict[str, Callable[..., int]] = {"import": weights_import, "info": weights_info}
