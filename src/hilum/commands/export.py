"""`hilum export`: an encoder with its trained head, for code that has no Hilum."""

from __future__ import annotations

from pathlib import Path

from tyro.conf import Positional

from hilum.errors import UserError


def export(
    encoder: Positional[str],
    out: Path,
    head: Path | None = None,
    embedding_only: bool = False,
    weights_licence: str | None = None,
    intended_use: str | None = None,
) -> int:
    """Write an encoder and its trained head as a bundle: ONNX, thresholds, preprocessing, origins, checksums.

    The ONNX file is compared with torch on batches of 1, 2 and 5 before anything is written.

    Args:
        encoder: A folder of `hilum finetune`, which holds its head; or with --head a run folder, its
            weights.safetensors, or a public encoder as NAME=WEIGHTS, see `hilum probe --help`.
        out: New folder to write.
        head: Folder of `hilum probe` of this encoder.
        embedding_only: Without a head: images to vectors, and nothing is said of findings.
        weights_licence: What may be done with the weights, such as "CC-BY-NC 4.0"; what their start requires is added.
        intended_use: What the bundle is for; by default research, and no decision about a patient.
    """
    from hilum.evaluate.asked import find_asked

    find_asked(encoder)  # before torch, which takes seconds to import
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"--out {out} exists already. Choose a new folder.")
    if head is not None and not head.is_dir():
        raise UserError(f"--head {head}: there is no such folder. Give the folder that `hilum probe` wrote.")
    from hilum.export.write_bundle import INTENDED_USE, write_bundle

    about = write_bundle(
        encoder,
        out,
        head=head,
        embedding_only=embedding_only,
        weights_licence=weights_licence,
        intended_use=INTENDED_USE if intended_use is None else intended_use,
    )
    reached = max(about["check"]["largest_difference"].values())
    print(f"ONNX and torch agree to {reached:.1g} on batches of 1, 2 and 5.")
    if about["timm"]["file"] is None:
        print(f"No file for plain timm: {about['timm']['reason']}.")
    print(f"written: {out}")
    return 0
