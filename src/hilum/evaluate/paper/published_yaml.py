"""The published numbers of a method, as the YAML file in its folder holds them, and how a user's names find theirs."""

from __future__ import annotations

import functools
from importlib.resources import files
from typing import Any, Literal

import yaml


@functools.cache
def read_published(suite: Literal["mvmae", "pacx", "mvmlm"]) -> dict[str, Any]:
    """The published tables of a method, by name; each file says at its head what is in percent and what from 0 to 1."""
    return yaml.safe_load((files("hilum.evaluate.paper") / suite / "published.yaml").read_text(encoding="utf-8"))


def simplify_name(name: str) -> str:
    """Letters and digits alone, in lower case, by which names are the same: "MIMIC-CXR" and "mimic_cxr"."""
    return "".join(letter for letter in name.lower() if letter.isalnum())
