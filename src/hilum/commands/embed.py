"""`hilum embed`: what a frozen encoder says of images, or a teacher of ECGs or laboratory values, as vectors."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from tyro.conf import Positional

from hilum.commands.evaluate import check_inputs
from hilum.commands.pretrain_teachers import check_data
from hilum.commands.terminal import say_next
from hilum.cores import count_cores
from hilum.errors import UserError
from hilum.ranges import Count, Workers

Shown = Literal["class", "mean", "max", "both", "2x2", "4x4"]


def embed(
    encoder: Positional[str],
    data: Path,
    out: Path,
    per: Literal["view", "study"] = "view",
    representation: tuple[Shown, ...] | None = None,
    batch_views: Count = 256,
    precision: Literal["auto", "bf16-mixed", "32-true"] = "auto",
    workers: Workers = 0,
) -> int:
    """Write vectors to Parquet: of images by an encoder, or of ECGs or laboratory values by a teacher.

    An encoder of images writes one row for each image, with its study, patient and vectors; with --per study one for
    each study. Teachers write one row for each study that has what they read: a study without has no row. Such a table
    goes straight to `hilum pretrain pacx --teachers ecg=FILE labs=FILE`. An ECG that cannot be used never stops it: it
    is listed in OUT-rejected.parquet, and the exit code is 3.

    Args:
        encoder: A run folder or its weights.safetensors, of images, `hilum pretrain ecg` or `hilum pretrain labs`;
            ecgfounder=FILE (12_lead_ECGFounder.pth; ecgfounder=random to try it out); or a public encoder of images as
            NAME=WEIGHTS, see `hilum probe --help`.
        data: Cache folder; for teachers a study table (Parquet) as well.
        out: Parquet file to write.
        per: Of images: a row for each view, or for each study, with `vector`, the mean over its views.
        representation: Of images: class token, mean of patch tokens, their maximum, class token and mean side by
            side, means in 2 x 2 or 4 x 4 regions; a column each. By default class token and mean, and of a
            convolutional encoder mean and max; with --per study one, by default mean.
        batch_views: Images at a time.
        precision: Of images: auto is bfloat16 where the processor or GPU computes in it.
        workers: Of ECGs: processes that read and filter; 0: one per core.
    """
    from hilum.outputs import FEATURES, check_parquet_output

    check_parquet_output(out, FEATURES, [data, Path(encoder), Path(encoder) / "weights.safetensors"])
    kind = _find_kind(encoder)
    if kind == "images":
        check_inputs(data, encoder)
    changed = {
        "per": per != "view",
        "representation": representation is not None,
        "batch-views": batch_views != 256,
        "precision": precision != "auto",
        "workers": workers != 0,
    }
    _refuse_idle(kind, {name for name, is_changed in changed.items() if is_changed})
    if kind == "images":
        out.parent.mkdir(parents=True, exist_ok=True)  # before the work, not after it
        _embed_images(encoder, data, out, per, representation, batch_views, precision)
        return 0
    check_data(data)
    num_rejected = 0
    if kind == "ecg":
        from hilum.signals.embedding import write_ecg_vectors

        processes = workers or count_cores()
        num_rejected = len(write_ecg_vectors(data, encoder, out, num_workers=processes).rejected)
    else:
        from hilum.laboratory.embedding import write_lab_vectors

        write_lab_vectors(data, Path(encoder), out)
    _say_next(data, kind, out)
    return 3 if num_rejected else 0


def _embed_images(
    encoder: str,
    data: Path,
    out: Path,
    per: Literal["view", "study"],
    shown: tuple[Shown, ...] | None,
    batch_views: int,
    precision: Literal["auto", "bf16-mixed", "32-true"],
) -> None:
    if per == "view":
        from hilum.evaluate.embedding_table import write_embeddings

        write_embeddings(encoder, data, out, representations=shown, batch_views=batch_views, precision=precision)
        print(f"written: {out}")
        return
    shown = ("mean",) if shown is None else shown
    if len(shown) != 1:
        raise UserError(f"--representation {' '.join(shown)}: with --per study a study has one vector: give one.")
    from hilum.teachers.images import write_image_vectors

    write_image_vectors(encoder, data, out, representation=shown[0], batch_views=batch_views, precision=precision)
    _say_next(data, "image", out)


def _say_next(data: Path, name: str, out: Path) -> None:
    folder = data if data.is_dir() else "cache"
    words = ("--data", folder, "--init", "runs/plain", "--teachers", f"{name}={out}", "--out", "runs/taught")
    say_next("pretrain", "pacx", *words)


def _find_kind(encoder: str) -> Literal["images", "ecg", "labs"]:
    """What the encoder reads, by its weights' header."""
    from hilum.model.places import TEACHER_FORMATS, find_ecg_founder, find_weights, read_format

    if find_ecg_founder(encoder) is not None:
        return "ecg"
    if not Path(encoder).exists():
        return "images"  # a name, or something that is refused as one
    what = TEACHER_FORMATS.get(read_format(find_weights(Path(encoder))), "")
    return "ecg" if "ECG" in what else "labs" if what else "images"


def _refuse_idle(kind: str, given: set[str]) -> None:
    """Settings that the encoder does not read."""
    read = {"images": {"per", "representation", "batch-views", "precision"}, "ecg": {"workers"}, "labs": set()}
    if idle := sorted(given - read[kind]):
        what = {"images": "an encoder of images", "ecg": "a teacher of ECGs", "labs": "a teacher of laboratory values"}
        raise UserError(f"--{idle[0]} has no effect with {what[kind]}: leave it out.")
