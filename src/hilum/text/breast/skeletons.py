"""The small language of the phrase files: slots, singular and plural, parts that vanish.

{name}   a slot        {x|y}   x for one, y for several        [...]   vanishes where a slot in it is empty
"""

from __future__ import annotations

import functools
import re
import tomllib
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

PHRASES = "phrases_en.toml"
_OPTIONAL = re.compile(r"\[([^\]]*)\]")
_SLOT = re.compile(r"\{([a-z_]+)\}")
_NUMBER = re.compile(r"\{([^{}|]*)\|([^{}|]*)\}")
_ARTICLE = re.compile(r"\b([Aa])(?= (?:[aeiouAEIOU]|8|11 |11\.|18 |18\.))")


@functools.cache
def read_phrases(path: Path | None = None) -> dict[str, Any]:
    """The phrases of Hilum, or those of a file of the same tables."""
    text = (
        resources.files("hilum.text.breast").joinpath(PHRASES).read_text("utf-8") if path is None else path.read_text()
    )
    return tomllib.loads(text)


def fill_skeleton(skeleton: str, slots: Mapping[str, str], *, several: bool = False) -> str:
    """A sentence, or several, with their capitals and full stops; "" where nothing is left of it.

    Example:
        >>> fill_skeleton("there {is|are} {a|} [{shape}] {mass|masses}[ with {margin} margins].", {"shape": "oval"})
        'There is an oval mass.'
    """
    words = _OPTIONAL.sub(lambda part: part[1] if _is_filled(part[1], slots) else "", skeleton)
    words = _NUMBER.sub(lambda pair: pair[2] if several else pair[1], words)
    words = _SLOT.sub(lambda slot: slots.get(slot[1], ""), words)
    return tidy_sentence(words)


def tidy_sentence(words: str) -> str:
    """Single spaces, no space before a comma or full stop, "an" before vowels, capitals where sentences begin."""
    words = re.sub(r"\s+([,.;:)])", r"\1", " ".join(words.split()))
    words = _ARTICLE.sub(r"\1n", words.strip(" ,"))
    words = re.sub(r"(?:^|(?<=[.] ))([a-z])", lambda first: first[1].upper(), words)
    return "" if words.strip(". ") == "" else words


def _is_filled(part: str, slots: Mapping[str, str]) -> bool:
    return all(slots.get(name) for name in _SLOT.findall(part))
