"""`hilum weights import`: a published checkpoint becomes a weights file like any other, and says where it is from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from hilum.checksums import hash_file
from hilum.errors import UserError
from hilum.outputs import check_not_input, check_suffix

from .checkpoint_file import read_state
from .encoder import Encoder
from .layouts import LAYOUTS
from .layouts.assemble import NORMALIZATIONS, Imported
from .weights import FORMAT, describe_weights, read_header, read_metadata, save_encoder


def import_weights(
    file: Path,
    out: Path,
    *,
    layout: str,
    heads: int | None = None,
    image_size: int | None = None,
    normalization: str = "auto",
    mean: Sequence[float] = (),
    std: Sequence[float] = (),
    licence: str = "not stated",
) -> Imported:
    """Write the image encoder of a published checkpoint to `out`; print what matched, what did not, what was assumed.

    Args:
        file: .safetensors, or a file of torch.save; nothing in it is run.
        out: weights file (.safetensors); an earlier one of Hilum is replaced.
        layout: one of LAYOUTS.
        heads, image_size: see `layouts.assemble.assemble`.
        normalization: a name in NORMALIZATIONS; "given": `mean` and `std`, a number or one for each channel; "auto":
            given where they are, else what is usual.
        licence: what its publishers allow, in the user's words; kept with the weights and all that starts from them.

    Raises:
        UserError: nothing is written; names what is missing, not known, of another shape, or refused.
    """
    chosen = _choose_normalization(normalization, mean, std)
    check_suffix(out, ".safetensors")
    check_not_input(out, [file])
    if out.exists():
        read_header(out)  # or it says that this is no encoder of Hilum, and it stays
    state = read_state(file)
    if file.suffix == ".safetensors" and read_metadata(file).get("format") == FORMAT:
        raise UserError(
            f"{file}: Hilum wrote it: nothing to import. Give it to probe, finetune, embed or --init as it is."
        )
    try:
        found = LAYOUTS[layout](state, heads=heads, image_size=image_size, normalization=chosen)
    except UserError as error:
        raise UserError(f"{file}, layout {layout}: {error}") from None
    with torch.device("meta"):
        encoder = Encoder(found.config)
    encoder.load_state_dict(found.tensors, assign=True)
    out.parent.mkdir(parents=True, exist_ok=True)
    save_encoder(encoder, out, _describe_origin(file, layout, found, licence))
    _print_report(out, found)
    return found


def _choose_normalization(
    name: str, mean: Sequence[float], std: Sequence[float]
) -> tuple[Sequence[float], Sequence[float]] | None:
    if name == "given" or (name == "auto" and (mean or std)):
        if not (mean and std):
            raise UserError("--normalization given needs --mean and --std: a number each, or one for each channel.")
        return mean, std
    if mean or std:
        raise UserError(f"--mean and --std have no effect beside --normalization {name}: leave one of them out.")
    return None if name == "auto" else NORMALIZATIONS[name]


def _describe_origin(file: Path, layout: str, found: Imported, licence: str) -> dict[str, Any]:
    """The header: `imported` marks it as nobody's run; `pretraining` goes on to what starts from it."""
    origin = {"file": file.name, "sha256": hash_file(file), "layout": layout, "licence": licence}
    return {
        "mean": found.mean,
        "std": found.std,
        "crop": "center",
        "max_views": None,
        "image_policy": None,  # nobody knows how its pixels became grey: any cache is read
        "pretraining": {"imported_weights": [origin]},
        "imported": {
            "source_mean": found.source_mean,
            "source_std": found.source_std,
            "left_out": found.left_out,
            "notes": found.notes,
        },
    }


def _print_report(out: Path, found: Imported) -> None:
    console = Console(highlight=False, soft_wrap=True)
    missing = [name for name in found.tensors if name not in found.matched]
    console.print(
        f"Matched: {len(found.matched)} of {len(found.tensors)} tensors. Missing: {', '.join(missing) or 'none'}. "
        "Unexpected: none."  # or the file was refused
    )
    if found.left_out:
        groups: dict[str, int] = {}
        for name in found.left_out:
            start = name.split(".")[0]
            groups[start] = groups.get(start, 0) + 1
        counts = ", ".join(f"{name} ({count})" if count > 1 else name for name, count in groups.items())
        console.print(f"Left out, known and not the encoder's: {counts}.", markup=False)
    console.print(f"{out}:", markup=False)
    console.print(describe_weights(out), markup=False)
