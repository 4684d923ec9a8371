"""`hilum pretrain ecg` and `hilum pretrain labs`: encoders of our own for what teaches an encoder of images."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import tyro
from tyro.conf import Positional, arg

from hilum.commands.terminal import say_next
from hilum.config.ecg import EcgPretrainingConfig, load_ecg
from hilum.config.laboratory import LaboratoryConfig, build_laboratory, load_laboratory
from hilum.cores import count_cores
from hilum.errors import UserError
from hilum.ranges import Workers

TEACHERS = ("ecg", "labs")
Preset = Literal["paper", "code", "hilum"]


def find_teacher(arguments: Sequence[str]) -> str | None:
    """The teacher that is to be trained, by its name or the config.json of an earlier run of it; None: no teacher."""
    word = arguments[0] if arguments else ""
    if word in TEACHERS:
        return word
    if not word.endswith(".json") or not Path(word).is_file():
        return None
    try:
        said = json.loads(Path(word).read_bytes())
    except ValueError:
        return None  # whoever reads it as a config says what is wrong
    recipe = said.get("recipe") if isinstance(said, dict) else None
    return recipe if recipe in TEACHERS else None


def run_teacher(teacher: str, arguments: Sequence[str]) -> int:
    """Parse the flags of a teacher, whose defaults its preset or an earlier run's config.json decides, and train it."""
    word, rest = arguments[0], arguments[1:]
    if teacher == "ecg":
        return _run_ecg(load_ecg(Path(word)) if word != "ecg" else EcgPretrainingConfig(), arguments)
    if word == "labs":
        return _run_labs(build_laboratory(_find_preset(rest)), arguments)
    if any(part.split("=")[0] == "--preset" for part in rest):
        raise UserError("--preset has no effect beside a config.json, which says it already.")
    return _run_labs(load_laboratory(Path(word)), arguments)


def _run_ecg(default: EcgPretrainingConfig, arguments: Sequence[str]) -> int:
    def pretrain(
        recipe: Positional[Annotated[str, arg(metavar="ecg")]],
        data: Path,
        out: Path,
        config: Annotated[EcgPretrainingConfig, arg(name="")] = default,
        workers: Workers = 0,
        resume: bool = False,
    ) -> int:
        """Train an encoder of ECGs on those of the training studies, without labels; its vectors teach `pacx`.

        For where ECGFounder's weights are not at hand (`hilum embed ecgfounder=FILE` makes vectors by them). Example:
        hilum pretrain ecg --data cache --out runs/ecg

        Records that cannot be used are left out and listed in the run's rejected.parquet; the exit code is then 3.

        Args:
            recipe: ecg, or the config.json of an earlier run of it.
            data: Cache folder, or a study table (Parquet) that has splits. Patients for validation and test stay
                unseen.
            out: Run folder to write.
            config: The settings.
            workers: Processes that read and filter records; 0: one per core.
            resume: Continue a run that was stopped; the settings must be the same.
        """
        check_data(data)
        if not config.reconstruction_weight and not config.contrast_weight:
            raise UserError("reconstruction-weight and contrast-weight are both 0: nothing would be learned.")
        from hilum.teachers.runs import train_ecg_teacher

        num_rejected = train_ecg_teacher(config, data, out, num_workers=workers or count_cores(), resume=resume)
        say_next("embed", out, "--data", data, "--out", "ecg-vectors.parquet")
        return 3 if num_rejected else 0

    return tyro.cli(pretrain, prog="hilum pretrain", args=list(arguments))


def _run_labs(default: LaboratoryConfig, arguments: Sequence[str]) -> int:
    def pretrain(
        recipe: Positional[Annotated[str, arg(metavar="labs")]],
        data: Path,
        out: Path,
        config: Annotated[LaboratoryConfig, arg(name="")] = default,
        preset: Preset = default.preset,
        vocabulary: str = "symile",
        resume: bool = False,
    ) -> int:
        """Train an auto-encoder of laboratory values on those of the training studies; its vectors teach `pacx`.

        Any value may be missing; what stands in its place never matters. Example:
        hilum pretrain labs --data cache --out runs/labs

        Args:
            recipe: labs, or the config.json of an earlier run of it.
            data: Cache folder, or a study table (Parquet) that has splits. Patients for validation and test stay
                unseen; those for validation measure the run.
            out: Run folder to write.
            config: The settings.
            preset: Where the paper and its released code disagree: the paper, the code, or Hilum's own.
            vocabulary: Values that are read, in their order: symile (the 50 of Symile-MIMIC), or a CSV file with the
                columns name, unit and, perhaps, itemid. The same as for `hilum ingest table`.
            resume: Continue a run that was stopped; the settings must be the same.
        """
        assert preset == config.preset, "the defaults were made for it"
        check_data(data)
        if vocabulary != "symile" and not Path(vocabulary).is_file():
            raise UserError(f"There is no vocabulary {vocabulary}: give symile, or a CSV file with name and unit.")
        from hilum.teachers.runs import train_lab_teacher

        train_lab_teacher(config, data, out, vocabulary=vocabulary, resume=resume)
        say_next("embed", out, "--data", data, "--out", "labs-vectors.parquet")
        return 0

    return tyro.cli(pretrain, prog="hilum pretrain", args=list(arguments))


def check_data(data: Path) -> None:
    """Refuse what is neither a cache nor a study table before torch, which takes seconds to import.

    Raises:
        UserError: it is neither.
    """
    from hilum.cache import Cache

    if data.suffix != ".parquet" or data.is_dir():
        Cache.open(data)
    elif not data.is_file():
        raise UserError(f"There is no study table {data}: `hilum ingest` makes one.")


def _find_preset(arguments: Sequence[str]) -> Preset:
    """What --preset says, before the flags whose defaults it decides are parsed."""

    def choose(preset: Preset = "hilum") -> Preset:
        return preset

    known = [argument for argument in arguments if argument not in ("-h", "--help")]
    preset, _ = tyro.cli(choose, args=known, return_unknown_args=True, add_help=False)
    return preset
