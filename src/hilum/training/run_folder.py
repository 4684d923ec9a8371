"""The run folder: everything a run can be repeated, continued and checked from.

config.json          the full config; `hilum pretrain config.json` repeats the run
environment.json     versions, processor, threads, commit; no host, user or path
pretraining.json     which patients and images the encoder has seen, as hashes, for leak checks
metrics.jsonl        one line a log step; truncated to the checkpoint when a run is continued
checkpoints/         see checkpoint.py
reconstructions/     example pictures at the start, the middle and the end
report_decoder.safetensors, tokenizer.json  what reports are written by, of runs that learned from reports
text_encoder.safetensors, tokenizer.json    what texts are read by, of runs that compared images with texts
weights.safetensors  the encoder, written last: a run that has it is finished
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import subprocess
from collections.abc import Collection, Generator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, replace
from importlib.metadata import version
from math import isfinite
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

from hilum.atomic import remove_leftovers, tells_full_disk, write_atomic
from hilum.cache import Cache
from hilum.config import Config, dump_config, find_batch_terms, load_config
from hilum.cores import count_cores
from hilum.errors import UserError
from hilum.folder_lock import lock_folder
from hilum.model.conv_encoder import ConvEncoder
from hilum.model.conv_weights import save_conv_encoder
from hilum.model.encoder import Encoder
from hilum.model.weights import read_metadata, save_encoder

if TYPE_CHECKING:
    import hilum.splits

# Settings that may differ when a run is continued: they move work about, and change no number but by rounding; unless
# a term compares the views of a batch with each other, see `list_differences`.
MAY_CHANGE = ("run.", "optim.accumulate")
# The long lists of pretraining.json, which stay out of the weights' header ("groups": of older records).
_SEEN = ("people", "images", "perceptual", "groups")


def lock_run(out: Path, patience: float = 20.0) -> AbstractContextManager[None]:
    """Make this process the only writer of a run folder, which is made where needed; waits `patience` seconds.

    Raises:
        UserError: another process holds it.
    """
    message = f"{out}: another process is writing this run. Wait for it to end, or choose another --out."
    return lock_folder(out, message, patience=patience)


def check_unused(out: Path, *, resume: bool) -> None:
    """Refuse a folder that holds a run nobody asked to continue; worth asking before processes are started, too.

    Raises:
        UserError: it holds one, or is a file.
    """
    if out.exists() and not out.is_dir():
        raise UserError(f"{out} is a file; expected a new folder, or that of a run to continue with --resume.")
    # environment.json is written when the first step is about to be taken.
    if not resume and (out / "config.json").exists() and (out / "environment.json").exists():
        raise UserError(f"{out}: holds a run already. Add --resume to continue it, or choose another --out.")


def begin_run(
    out: Path,
    config: Config,
    cache: Cache,
    *,
    resume: bool,
    init: Path | None = None,
    teachers: Collection[Path] = (),
) -> None:
    """Fill a new run folder, or check that the run in it may be continued with this config and cache.

    With `resume`, an empty folder is begun like a new one: a job script can always say --resume. `init` is the weights
    file that a new run starts from: what its encoder has seen, this one will have seen; and so with `teachers`, the
    tables of vectors that it learns from.

    Raises:
        UserError: the folder holds something else, a run nobody asked to continue, or one of other settings or data.
    """
    remove_leftovers(out)
    before = load_config(out / "config.json") if (out / "config.json").exists() else None
    if before is not None and resume and config.initial_weights is None:
        # A run is continued from its checkpoint, with or without a word on its start.
        config = replace(config, initial_weights=before.initial_weights)
    if before is not None and resume and config.text.vocabulary is None:
        config = replace(config, text=replace(config.text, vocabulary=before.text.vocabulary))
    if before is None or not (out / "environment.json").exists():  # written when the first step is about to be taken
        found = sorted(path.name for path in out.iterdir() if not path.name.startswith("."))
        if set(found) - {"pretraining.json", "config.json", "metrics.jsonl"}:
            raise UserError(
                f"{out}: holds other files ({', '.join(found[:3])}) and no run. Choose a new folder as --out."
            )
        informing = teachers if config.teachers.pairs != "random" else ()  # noise tells of nobody
        seen = describe_training_data(cache, init, config.data.leave_out, informing)
        write_atomic(out / "pretraining.json", json.dumps(seen, indent=1) + "\n")
        write_atomic(out / "config.json", dump_config(config))
        return
    check_unused(out, resume=resume)
    changed = list_differences(before, config)
    if changed:
        raise UserError(
            f"{out}: was started with other settings: {'; '.join(changed[:6])}"
            f"{f' and {len(changed) - 6} more' if len(changed) > 6 else ''}. "
            "Repeat the first command with --resume, or choose another --out."
        )
    digest = json.loads((out / "pretraining.json").read_bytes())["data_digest"]
    if digest != cache.digest:
        raise UserError(
            f"{out}: was started on another cache (digest {digest[:12]}, {cache.path} has {cache.digest[:12]}). "
            "Give the same --data, or choose another --out."
        )


@contextmanager
def explain_full_disk(out: Path) -> Generator[None, None, None]:
    """Say that the disk is full instead of how each library puts it.

    Raises:
        UserError: something could not be written within the block for want of space; what was there before is whole.
    """
    try:
        yield
    except Exception as error:
        if not tells_full_disk(error):
            raise
        free = shutil.disk_usage(out).free / 2**20
        raise UserError(
            f"{out}: the disk is full ({free:.0f} MiB free, or a quota is reached). What was written before is whole. "
            "Free some space, or lower --run.keep-checkpoints, and continue with --resume."
        ) from error


def record_session(out: Path, from_step: int, *, precision: str, num_processes: int) -> None:
    """Add this start of the run to environment.json: a run may be continued on another machine."""
    path = out / "environment.json"
    sessions = json.loads(path.read_bytes())["sessions"] if path.exists() else []
    now = {"from_step": from_step, "precision": precision, "processes": num_processes, **describe_environment()}
    if sessions and {**sessions[-1], "from_step": from_step} == now:
        return  # the same machine again
    write_atomic(path, json.dumps({"sessions": [*sessions, now]}, indent=2) + "\n")


def list_differences(before: Config, now: Config) -> list[str]:
    """Settings that differ, as "name: was X, now Y", but for those that may change.

    Contrast and the collapse guard compare the views of one micro-batch of all processes with each other. With them,
    the number of parts may not change, nor, in several parts, the number of processes: it decides who shares a part.
    """
    old, new = (_flatten(json.loads(dump_config(config))) for config in (before, now))
    names = [name for name in {**old, **new} if old.get(name) != new.get(name)]
    terms = find_batch_terms(before)
    fixed = ["optim.accumulate"] if terms else []
    if terms and before.optim.accumulate > 1:
        fixed += ["run.devices", "run.num_nodes"]
    found = []
    for name in names:
        if name in fixed or not name.startswith(MAY_CHANGE):
            why = f" (decides which views terms.{', terms.'.join(terms)} compare)" if name in fixed else ""
            found.append(f"{name}: was {old.get(name, 'unset')}, now {new.get(name, 'unset')}{why}")
    return found


def _flatten(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat = {}
    for key, value in tree.items():
        flat |= _flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return flat


def describe_environment() -> dict[str, Any]:
    """Versions, processor and threads: what a number may depend on; no host name, user or path."""
    return {
        "python": platform.python_version(),
        **{name: version(name) for name in ("hilum", "torch", "timm", "numpy", "lightning-fabric")},
        "commit": _read_commit(),
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _read_processor(),
        "bfloat16": sorted(_read_processor_flags() & {"avx512_bf16", "amx_bf16", "bf16"}),
        "gpus": [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())],
        "cores": count_cores(),
        "threads": torch.get_num_threads(),
    }


def computes_bfloat16() -> bool:
    """Whether this machine's GPU or processor multiplies bfloat16 matrices in hardware, and not in emulation."""
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return bool(_read_processor_flags() & {"avx512_bf16", "amx_bf16", "bf16"})


def _read_processor_flags() -> set[str]:
    path = Path("/proc/cpuinfo")
    for line in path.read_text().splitlines() if path.exists() else ():
        if line.startswith(("flags", "Features")):
            return set(line.split(":", 1)[1].split())
    return set()


def _read_processor() -> str:
    path = Path("/proc/cpuinfo")
    for line in path.read_text().splitlines() if path.exists() else ():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def _read_commit() -> str | None:
    """The commit of the checkout Hilum runs from; None for an installed package."""
    root = Path(__file__).parents[2]
    if not (root / ".git").exists():
        return None
    done = subprocess.run(["git", "-C", root, "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    return done.stdout.strip() or None


class Seen(NamedTuple):
    """Whom an encoder has seen, as far as anybody can tell."""

    listed: hilum.splits.Fingerprint
    # False: records from before patient ids were kept hold groups under names that nothing else can be compared with,
    # and count as images alone.
    lists_all_people: bool
    # Published weights that it is or starts from, as `hilum weights import` records them: they list nobody.
    imported_weights: tuple[dict[str, Any], ...] = ()
    # What its images show (`overlap/perceptual_hash.py`); None: the record is from before that was kept.
    perceptual: np.ndarray | None = None


def read_seen(run: Path) -> Seen:
    """Whom the encoder of a run folder or a weights file has seen, from the pretraining.json beside its weights.

    Imported weights have no such record; their header says so.

    Raises:
        UserError: there is no record.
    """
    from hilum.overlap.perceptual_hash import NUM_BITS, unpack_hashes
    from hilum.splits import Fingerprint  # needs polars, as the few other steps before training do

    weights = run if run.is_file() else run / "weights.safetensors"
    about = read_metadata(weights) if weights.is_file() else {}
    if "imported" in about:
        none = np.zeros((0, 2, NUM_BITS // 64), np.uint64)
        return Seen(Fingerprint({}, frozenset()), True, tuple(about["pretraining"]["imported_weights"]), none)
    path = weights.parent / "pretraining.json"
    try:
        about = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise UserError(
            f"{path} is missing: without it nobody can tell whether the test patients were pretrained on. "
            "Copy it from the run folder that the weights are from."
        ) from None
    people = {salt: frozenset(hashes) for salt, hashes in about.get("people", {}).items()}
    listed = Fingerprint(people, frozenset(about["images"]))
    imported = tuple(about.get("imported_weights", ()))
    return Seen(listed, about.get("lists_all_people", False), imported, unpack_hashes(about.get("perceptual")))


def describe_training_data(
    cache: Cache, before: Path | None = None, leave_out: Sequence[str] = (), teachers: Collection[Path] = ()
) -> dict[str, Any]:
    """Which patients and images an encoder has seen: the training split of the cache, as hashes.

    Patient ids are already hashes that need the user's secret salt, unless the user kept them as they were. Here all
    are hashed once more, with the digest of the cache, which the record names: that is what lets any archive be
    compared later, by hashing its own ids likewise, whoever made it and whichever groups it found. Nobody can look the
    hashes up in a table made beforehand or match the patients of two records, but who holds the record of *kept* ids
    can try out guesses (no salt that a comparison needs would prevent that): keep it as private as those ids.

    Args:
        cache: What it learns from.
        before: Run folder or weights file of the encoder it starts from, whose patients and images join the lists.
        leave_out: Archives of the cache it does not learn from.
        teachers: Tables of vectors it learns from: whom their teachers have learned from joins the people.

    Returns:
        Counts, archive names and digest of this cache, `people` (salt -> hashed ids of patients and of groups),
        `lists_all_people` (False: it starts from an encoder whose record does not name them), `imported_weights` (see
        `Seen`), `images` (SHA-256 of the pixels) and `perceptual` (what they show, `overlap/perceptual_hash.py`; null:
        it starts from an encoder whose record does not say it); lists are sorted.
    """
    from hilum.overlap.perceptual_hash import hash_views, pack_hashes
    from hilum.splits import Fingerprint, fingerprint_studies

    rows = cache.rows("train", leave_out)
    studies = cache.table()[rows]
    seen, knows_all, imported = fingerprint_studies(studies, cache.digest), True, ()
    shown = hash_views(cache)[np.isin(cache.views["study"], rows)]
    if before is not None:
        start, knows_all, imported, shown_before = read_seen(before)
        own = seen.people[cache.digest] | start.people.get(cache.digest, frozenset())
        seen = Fingerprint({**start.people, cache.digest: own}, seen.pixels | start.pixels)
        shown = None if shown_before is None else np.concatenate([shown, shown_before])
    everyone = dict(seen.people)
    for table in teachers:
        from hilum.teachers.table import read_taught

        for salt, hashes in read_taught(table).items():
            everyone[salt] = everyone.get(salt, frozenset()) | hashes
    people = {salt: sorted(hashes) for salt, hashes in sorted(everyone.items())}
    return {
        "data_digest": cache.digest,
        "datasets": [name for name in cache.datasets if name not in leave_out],
        "num_studies": len(studies),
        "num_views": int(studies["views"].list.len().sum()),
        "num_groups": studies["group"].n_unique(),
        "groups_digest": hashlib.sha256(json.dumps(people).encode()).hexdigest(),
        "lists_all_people": knows_all,
        "imported_weights": list(imported),
        "people": people,
        "images": sorted(seen.pixels),
        "perceptual": None if shown is None else pack_hashes(shown),
    }


def finish_run(out: Path, encoder: Encoder | ConvEncoder, cache: Cache, config: Config) -> None:
    """Write weights.safetensors, with what an evaluator must know to feed it and whom it must not test it on."""
    data = json.loads((out / "pretraining.json").read_bytes())
    about = {
        "mean": cache.mean,
        "std": cache.std,
        "crop": config.data.shown.mode,
        "max_views": config.data.max_views,
        "image_policy": cache.policy,
        "data_digest": cache.digest,
        "recipe": config.recipe,
        "preset": config.preset,
        "size": config.size,
        "initial_weights": None if config.initial_weights is None else asdict(config.initial_weights),
        "pretraining": {name: value for name, value in data.items() if name not in _SEEN},
    }
    if isinstance(encoder, ConvEncoder):
        save_conv_encoder(encoder, out / "weights.safetensors", about)
    else:
        save_encoder(encoder, out / "weights.safetensors", about)


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The lines of a metrics.jsonl, also while it grows: a last line that is only half there is left out."""
    whole = [line for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")]
    return [json.loads(line) for line in whole]


class MetricsFile:
    """metrics.jsonl: appended line by line, and cut back to a checkpoint's step when a run is continued."""

    def __init__(self, path: Path, last_step: int) -> None:
        """Open for appending after `last_step`; lines of later steps, and a half-written one, are dropped."""
        kept = [line for line in read_metrics(path) if line["step"] <= last_step] if path.exists() else []
        write_atomic(path, "".join(json.dumps(line) + "\n" for line in kept))
        self._file: IO[str] = path.open("a")

    def append(self, line: dict[str, Any]) -> None:
        """Write one line; a figure that could not be measured (not a number) becomes null."""
        clean = {
            name: None if isinstance(value, float) and not isfinite(value) else value for name, value in line.items()
        }
        self._file.write(json.dumps(clean, allow_nan=False) + "\n")
        self._file.flush()

    def flush_to_disk(self) -> None:
        """Before a checkpoint: the lines up to it must outlive a power cut as it does."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        self._file.close()
