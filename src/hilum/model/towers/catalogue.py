"""Public encoders by what a user types: NAME=WEIGHTS, such as `biomedclip=/models/biomedclip`.

NAME is one of `TOWERS`, `timm:MODEL` for any image encoder of timm, or `hf:FOLDER` for one that transformers can read
(its weights are in the folder; `hf:FOLDER=FILE` takes others). WEIGHTS is a file or folder on this machine; `random`
for trying out; or `download`, without which nothing here ever uses the network. Nothing heavy is imported for a name.
"""

from __future__ import annotations

import difflib
import importlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from hilum.errors import UserError

if TYPE_CHECKING:
    import hilum.model.towers.tower

Weights = Path | Literal["random", "download"]

# Name -> file and function that builds it; a file is imported when its encoder is used (transformers takes seconds).
TOWERS = {
    "imagenet-vit-b": ("timm_model", "build_imagenet"),
    "biomedclip": ("biomedclip", "build_biomedclip"),
    "biomedclip-projected": ("biomedclip", "build_biomedclip_projected"),
    "chexagent": ("chexagent", "build_chexagent"),
}


@dataclass(frozen=True)
class TowerSpec:
    """A public encoder that was asked for; nothing is read before `load`."""

    name: str
    weights: Weights

    @property
    def label(self) -> str:
        """What it is called in tables: without places on this machine."""
        kind, _, rest = self.name.partition(":")
        name = f"hf:{Path(rest).resolve().name}" if kind == "hf" else self.name
        return f"{name} (random weights)" if self.weights == "random" else name

    def load(self) -> hilum.model.towers.tower.Tower:
        """Build it and read its weights; random ones are drawn from torch's default generator.

        Raises:
            UserError: the weights are not there, or not its own; says what to download from where.
        """
        kind, _, rest = self.name.partition(":")
        if kind == "timm":
            tower = _find("timm_model", "build_timm")(rest, self.weights)
        elif kind == "hf":
            tower = _find("model_folder", "build_model_folder")(Path(rest), self.weights)
        else:
            tower = _find(*TOWERS[self.name])(self.weights)
        source = self.weights if isinstance(self.weights, str) else self.weights.resolve().name
        tower.describe(replace(tower.config, weights=source))
        return tower


def names_tower(text: str) -> bool:
    """Whether `text` begins with the name of a public encoder, whatever weights it asks for."""
    name = text.partition("=")[0]
    kind, _, rest = name.partition(":")
    return name in TOWERS or bool(kind in ("timm", "hf") and rest)


def parse_tower(text: str) -> TowerSpec | None:
    """What `text` asks for; None where it is no public encoder's name.

    Raises:
        UserError: a name that does not exist, weights that are not there, or none.
    """
    name, _, given = text.partition("=")
    if not names_tower(text):
        if not given:
            return None
        close = difflib.get_close_matches(name, TOWERS, n=1)
        hint = f" Did you mean '{close[0]}'?" if close else ""
        raise UserError(f"There is no encoder '{name}'.{hint} There are {', '.join(TOWERS)}, timm:MODEL and hf:FOLDER.")
    if name.startswith("hf:"):
        given = given or name.removeprefix("hf:")
        if given == "download":
            raise UserError(f"{text}: hf: takes a folder on this machine, and downloads nothing.")
    if not given:
        raise UserError(
            f"{name}: whose weights? Give {name}=FILE or {name}=FOLDER of published weights on this machine; "
            f"{name}=random to try it out without; or {name}=download, which uses the network."
        )
    if given in ("random", "download"):
        return TowerSpec(name, given)
    if not Path(given).exists():
        raise UserError(
            f"{given}: there is no such file or folder with the weights of {name}. Copy them there; {name}=download "
            f"fetches them where there is a network, {name}=random tries it out without."
        )
    return TowerSpec(name, Path(given))


def _find(file: str, function: str) -> Any:
    return getattr(importlib.import_module(f"{__package__}.{file}"), function)
