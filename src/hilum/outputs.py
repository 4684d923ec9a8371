"""Files that a command is about to write: never over its input, nor over anything that Hilum did not write itself."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from .errors import UserError

# Kind of output -> the key in its Parquet metadata that marks it, and what to call it.
STUDIES, FEATURES, REPORTS = "hilum_studies", "hilum_features", "hilum_reports"
_NAMES = {STUDIES: "study table", FEATURES: "table of features", REPORTS: "table of reports"}


def check_parquet_output(out: Path, kind: str, inputs: Iterable[Path] = ()) -> None:
    """Refuse an `out` that is not a Parquet file of this kind or free to become one.

    Args:
        out: File to write.
        kind: STUDIES, FEATURES or REPORTS; an older file of the same kind is replaced.
        inputs: Files that the command reads.

    Raises:
        UserError: another suffix, an input, a file of another kind, or the study table within a cache.
    """
    check_suffix(out, ".parquet")
    check_not_input(out, inputs)
    if (out.parent / "settings.json").exists() and any(out.parent.glob("shard-*.json")):
        raise UserError(f"--out {out} is in a cache, whose files only `hilum cache` writes. Choose another --out.")
    if out.exists() and (found := _read_kind(out)) != kind:
        raise UserError(
            f"--out {out} exists and is {(found and f'a {_NAMES[found]}') or 'not a file of Hilum'}: it would be "
            f"replaced by a {_NAMES[kind]}. Choose another --out, or delete that file."
        )


def check_result_folder(out: Path) -> None:
    """Refuse a folder for results in which a run, a cache or weights lie.

    A fine-tuning would take the run's checkpoints for its own and replace its weights; of a folder that holds several
    things a report draws one.

    Raises:
        UserError: with what it holds.
    """
    held = {
        "a run": (out / "metrics.jsonl").exists(),
        "a cache": (out / "index.json").exists(),
        "weights": (out / "weights.safetensors").exists() and not (out / "settings.json").exists(),
    }
    if found := next((what for what, is_there in held.items() if is_there), None):
        raise UserError(f"--out {out} holds {found}: results need a folder of their own, such as {out / 'results'}.")


def check_suffix(out: Path, suffix: str) -> None:
    """Refuse another suffix than the format's, so that no file of another format is written over."""
    if out.suffix.lower() != suffix:
        raise UserError(f"--out {out}: expected a name that ends in {suffix}.")
    if out.is_dir():
        raise UserError(f"--out {out} is a folder; expected the name of a {suffix} file.")


def check_not_input(out: Path, inputs: Iterable[Path]) -> None:
    """Refuse to write over what is read."""
    for path in inputs:
        if out.exists() and path.exists() and out.samefile(path):
            raise UserError(f"--out {out} is the file that is read. Choose another --out.")


def _read_kind(path: Path) -> str | None:
    import polars as pl  # --help waits for nothing heavy

    from .study import STUDY_SCHEMA

    try:
        metadata, schema = pl.read_parquet_metadata(path), pl.read_parquet_schema(path)
    except (pl.exceptions.PolarsError, OSError):
        return None
    # Study tables may be made by hand with polars, which leaves no mark.
    return next((kind for kind in _NAMES if kind in metadata), STUDIES if set(STUDY_SCHEMA) <= set(schema) else None)
