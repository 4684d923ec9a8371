"""`hilum pretrain RECIPE`: from a recipe's name, a preset, a size and any setting as a flag to a run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from .config import Config, check_effects, load_config
from .errors import UserError
from .recipes import RECIPES, build_recipe


@dataclass(frozen=True)
class _Choice:
    """What decides the defaults of every other flag; read before them."""

    recipe: tyro.conf.Positional[str] = "mvmae"
    preset: Literal["paper", "code", "hilum"] = "hilum"
    size: Literal["tiny", "small", "base", "large"] = "base"


@dataclass(frozen=True)
class _Pretrain:
    """Learn an encoder from whole studies by a recipe.

    RECIPE is mvmae, independent, or the config.json of an earlier run. Every setting below is a flag; its default is
    the recipe's. Example:

        hilum pretrain mvmae --data cache --out runs/first --size small --optim.epochs 100
    """

    recipe: tyro.conf.Positional[str]
    """Name of a recipe (see above), or the config.json of an earlier run."""
    data: Path
    """Cache folder from `hilum cache`."""
    out: Path
    """Run folder to write."""
    config: Annotated[Config, tyro.conf.arg(name="")]
    preset: Literal["paper", "code", "hilum"] = "hilum"
    """Where the paper and its released code disagree: the paper, the code, or Hilum's own."""
    size: Literal["tiny", "small", "base", "large"] = "base"
    """Size of the encoder."""
    resume: bool = False
    """Continue a run that was stopped; the settings must be the same."""


def run_pretrain(arguments: Sequence[str]) -> int:
    """Parse in two passes: the recipe decides which flags exist and what their defaults are."""
    config = _choose_defaults(arguments)
    parsed = tyro.cli(
        _Pretrain,
        prog="hilum pretrain",
        args=list(arguments),
        default=_Pretrain(
            recipe=tyro.MISSING,
            data=tyro.MISSING,
            out=tyro.MISSING,
            config=config,
            preset=config.preset,
            size=config.size,
        ),
        config=(tyro.conf.AvoidSubcommands,),
    )
    check_effects(parsed.config)
    from .train import pretrain

    pretrain(parsed.config, parsed.data, parsed.out, resume=parsed.resume)
    print(f"Next: hilum probe {parsed.out} --data {parsed.data}")
    return 0


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
