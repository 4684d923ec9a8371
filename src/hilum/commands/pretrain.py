"""`hilum pretrain RECIPE`: from a recipe's name, a preset, a size and any setting as a flag to a run."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from inspect import getdoc
from pathlib import Path
from typing import Annotated, Literal

import tyro
from tyro.conf import AvoidSubcommands, Positional, arg

from hilum.commands.pretrain_teachers import find_teacher, run_teacher
from hilum.config import Config, EncoderConfig, load_config
from hilum.errors import UserError
from hilum.recipes import RECIPES, build_recipe
from hilum.training.effects import check_effects
from hilum.wording import say_no_file


@dataclass(frozen=True)
class _Choice:
    """What decides the defaults of every other flag; read before them."""

    recipe: Positional[str] = "mvmae"
    preset: Literal["paper", "code", "hilum"] = "hilum"
    size: Literal["nano", "tiny", "small", "base", "large"] = "base"


def run_pretrain(arguments: Sequence[str]) -> int:
    """Parse in two passes: the recipe decides which flags exist and what their defaults are."""
    if teacher := find_teacher(arguments):
        return run_teacher(teacher, arguments)
    default = _choose_defaults(arguments)

    def pretrain(
        recipe: Positional[Annotated[str, arg(metavar="RECIPE")]],
        data: Path,
        out: Path,
        config: Annotated[Config, arg(name="")] = default,
        preset: Literal["paper", "code", "hilum"] = default.preset,
        size: Literal["nano", "tiny", "small", "base", "large"] = default.size,
        init: Path | None = None,
        vocabulary: Path | None = None,
        teachers: tuple[str, ...] = (),
        texts: Path | None = None,
        language_model: Path | None = None,
        resume: bool = False,
    ) -> int:
        """Learn an encoder from whole studies by a recipe.

        Args:
            recipe: One of those above, or the config.json of an earlier run.
            data: Cache folder from `hilum cache`.
            out: Run folder to write.
            config: The settings.
            preset: Where the paper and its released code disagree: the paper, the code, or Hilum's own.
            size: Size of the encoder.
            init: Start the encoder from these weights of the same architecture: a run folder or a weights.safetensors.
            vocabulary: Vocabulary of report tokens (BERT's vocab.txt, or a tokenizer.json); by default learned from the
                training split's reports.
            teachers: Tables of teachers' vectors as NAME=TABLE, such as ecg=ecg-vectors.parquet: what `hilum embed`
                makes, or any Parquet file with the columns dataset, study and vector.
            texts: Texts that images are compared with, of breasts or studies: a Parquet file with the columns dataset,
                study, text, and as far as known laterality, facts, single_view; by default the report sections.
            language_model: Folder of the BERT-like model that reads these, such as a download of
                emilyalsentzer/Bio_ClinicalBERT.
            resume: Continue a run that was stopped; the settings must be the same.
        """
        if vocabulary is not None and config.text.vocabulary_size != default.text.vocabulary_size:
            raise UserError("text.vocabulary_size has no effect beside --vocabulary: leave one of them out.")
        tables = parse_teachers(teachers)
        check_effects(config)
        if config.optim.steps is not None and config.optim.epochs != default.optim.epochs:
            raise UserError("optim.epochs has no effect beside optim.steps: leave one of them out.")
        from hilum.cache import Cache
        from hilum.model.places import find_weights

        Cache.open(data)  # what is not there is refused before torch, which takes seconds to import
        if init is not None:
            find_weights(init)
        from hilum.training.pretrain import pretrain as train

        train(
            config, data, out, init=init, vocabulary=vocabulary, teachers=tables, texts=texts,
            language_model=language_model, resume=resume,
        )  # fmt: skip
        of_breasts = "" if isinstance(config.encoder, EncoderConfig) else " --task breast:mass"
        print(f"Next: hilum probe {shlex.quote(str(out))} --data {shlex.quote(str(data))}{of_breasts}")
        return 0

    return tyro.cli(
        pretrain,
        prog="hilum pretrain",
        args=list(arguments),
        description=describe_recipes(),
        config=(AvoidSubcommands,),
    )


def describe_recipes() -> str:
    """What `--help` begins with: each recipe by the first sentence of its function."""
    firsts = {name: " ".join((getdoc(build) or "").split("\n\n")[0].split()) for name, build in RECIPES.items()}
    listed = "\n".join(f"  {name}: {first.replace('`', '')}" for name, first in firsts.items())
    return (
        "Learn an encoder from whole studies by a recipe. Every setting below is a flag, and its default is the "
        "recipe's. Example:\n  hilum pretrain mvmae --data cache --out runs/first --size small --optim.epochs 100\n\n"
        f"Recipes:\n{listed}\n\nTeachers of pacx are trained by `hilum pretrain ecg` and `hilum pretrain labs`; "
        "each has its own --help."
    )


def parse_teachers(words: Sequence[str]) -> dict[str, Path]:
    """Tables by the teacher's name, of NAME=TABLE.

    Raises:
        UserError: a word is not of this form, names no file, or a teacher is named twice.
    """
    tables: dict[str, Path] = {}
    for word in words:
        name, is_given, path = word.partition("=")
        if not is_given or not re.fullmatch(r"[A-Za-z][A-Za-z0-9_-]*", name):
            raise UserError(f"--teachers {word}: expected NAME=TABLE, such as ecg=ecg-vectors.parquet.")
        if name in tables:
            raise UserError(f"--teachers names {name} twice: give each teacher a name of its own.")
        if not Path(path).is_file():
            raise UserError(f"--teachers {word}: {say_no_file(Path(path))}; expected a table of vectors.")
        tables[name] = Path(path)
    return tables


def _choose_defaults(arguments: Sequence[str]) -> Config:
    asks_help = {"-h", "--help"} & set(arguments)
    if asks_help and (not arguments or arguments[0].startswith("-")):
        return build_recipe("mvmae")
    known = [argument for argument in arguments if argument not in ("-h", "--help")]
    choice, _ = tyro.cli(_Choice, args=known, return_unknown_args=True, add_help=False)
    if choice.recipe not in RECIPES and choice.recipe.endswith(".json"):
        named = [flag for flag in ("--preset", "--size") if any(part.split("=")[0] == flag for part in arguments)]
        if named:
            raise UserError(f"{' and '.join(named)} have no effect beside a config.json, which says them already.")
        return load_config(Path(choice.recipe))
    return build_recipe(choice.recipe, choice.preset, choice.size)
