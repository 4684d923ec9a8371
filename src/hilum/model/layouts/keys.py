"""Names in a published file against names here: a table of beginnings, read in both directions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from torch import Tensor


class Renamed(NamedTuple):
    """The tensors of a state dict by their names here, and what became of the others."""

    tensors: dict[str, Tensor]
    name_there: Callable[[str], str]  # from a name here
    left_out: tuple[str, ...]  # names there of what such files are known to hold and an encoder does not need
    unexpected: tuple[str, ...]  # names there of the rest
    added: tuple[str, ...] = ()  # names here of what the file does not have and may do without
    notes: tuple[str, ...] = ()


def rename(state: Mapping[str, Tensor], table: Mapping[str, str], known: Sequence[str], prefix: str = "") -> Renamed:
    """Tensors whose names begin with `prefix` and a key of `table`, with that replaced by its value.

    Keys and values that end in a dot are beginnings of names, others whole names. Of the rest, names that begin with
    one of `known` are left out, and others are unexpected.
    """
    tensors, left_out, unexpected = {}, [], []
    for name, tensor in state.items():
        here = _translate(name.removeprefix(prefix), table) if name.startswith(prefix) else None
        if here is not None:
            tensors[here] = tensor
        elif name.startswith(tuple(known)):
            left_out.append(name)
        else:
            unexpected.append(name)
    back = {here: there for there, here in table.items()}

    def name_there(here: str) -> str:
        return prefix + (_translate(here, back) or here)

    return Renamed(tensors, name_there, tuple(left_out), tuple(unexpected))


def _translate(name: str, table: Mapping[str, str]) -> str | None:
    for start, replacement in table.items():
        if name == start or (start.endswith(".") and name.startswith(start)):
            return replacement + name.removeprefix(start)
    return None


# timm's names, which Hilum's are and masked autoencoders' too.
TIMM_NAMES = {name: name for name in ("cls_token", "pos_embed", "patch_embed.proj.", "blocks.", "norm.")}
