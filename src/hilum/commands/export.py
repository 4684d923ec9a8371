"""`hilum export`: an encoder with its trained head, or a table of exams, for code that has no Hilum."""

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
    mirai: bool = False,
) -> int:
    """Write an encoder and its trained head as a bundle (ONNX, thresholds, ...), or a table of exams for Mirai.

    A bundle also has preprocessing, origins and checksums; its ONNX file is compared with torch on batches of 1, 2 and
    5 before anything is written.

    Args:
        encoder: A folder of `hilum finetune`, which holds its head; or with --head a run folder, its
            weights.safetensors, or a public encoder as NAME=WEIGHTS, see `hilum probe --help`. With --mirai a cache
            folder or a study table (Parquet).
        out: New folder to write; with --mirai a CSV file.
        head: Folder of `hilum probe` of this encoder.
        embedding_only: Without a head: images to vectors, and nothing is said of findings.
        weights_licence: What may be done with the weights, such as "CC-BY-NC 4.0"; what their start requires is added.
        intended_use: What the bundle is for; by default research, and no decision about a patient.
        mirai: Write mammography exams with follow-up in the format of Mirai, a model of risk, as `hilum ingest table
            --mirai` reads it: a row for each view of exams that have all four.
    """
    if mirai:
        unused = {
            "--head": head, "--embedding-only": embedding_only, "--weights-licence": weights_licence,
            "--intended-use": intended_use,
        }  # fmt: skip
        for flag, given in unused.items():
            if given:
                raise UserError(f"{flag} has no effect with --mirai: leave one of them out.")
        return _export_mirai(Path(encoder), out)
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


def _export_mirai(data: Path, out: Path) -> int:
    from hilum.export.mirai_table import write_mirai_table
    from hilum.sources.mirai import NEVER
    from hilum.wording import say_count

    table = write_mirai_table(data, out)
    for note in table.notes:
        print(f"- {note}")
    rows = table.rows
    exams = rows.unique(["patient_id", "exam_id"])
    cancers = int((exams["years_to_cancer"] < NEVER).sum())
    print(
        f"written: {out}: {say_count(len(exams), 'exam')} of {say_count(rows['patient_id'].n_unique(), 'patient')}, "
        f"{cancers:,} with cancer"
    )
    return 0
