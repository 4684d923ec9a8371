"""A language model's answer without preambles, fences, headings, list markers and remarks (L 2.5)."""

from __future__ import annotations

import re
import unicodedata

_THOUGHTS = re.compile(r"<think(?:ing)?>.*?(?:</think(?:ing)?>|\Z)", re.DOTALL | re.IGNORECASE)
_FENCE = re.compile(r"^\s*```[\w-]*\s*$", re.MULTILINE)
_MARKER = re.compile(r"^\s*(?:[-*\u2022\u2013]|\d{1,2}[.)])\s+", re.MULTILINE)
_HASHES = re.compile(r"^\s*#{1,6}\s*.*$", re.MULTILINE)
_BOLD = re.compile(r"(\*\*|__)(.+?)\1", re.DOTALL)
_HEADING = re.compile(
    r"^\s*(?:(?:mammograph\w+ |radiology |breast )*(?:report|findings?|impression|conclusion|composition|"
    r"assessment|technique|description|summary|examination)\s*:)[ \t]*",
    re.MULTILINE | re.IGNORECASE,
)
_OPENING = re.compile(
    r"^\s*(?:(?:sure|certainly|of course|absolutely|okay|ok)\b[^\n.!:]*[.!:,]\s*)?"
    r"(?:(?:here (?:is|are)|here's|below is|the following is)\b[^\n:]*:\s*)?",
    re.IGNORECASE,
)
_CLOSING = re.compile(
    r"^\s*(?:note\b|please note|let me know|i hope|this report|disclaimer|if you|feel free)[^\n]*\Z",
    re.IGNORECASE | re.MULTILINE,
)
_QUOTES = (('"', '"'), ("\u201c", "\u201d"), ("'", "'"))


def clean_answer(text: str) -> str:
    """The report in a model's answer, on one line; "" where nothing is left."""
    text = _THOUGHTS.sub(" ", text)
    text = _FENCE.sub("", text).strip()
    text = _OPENING.sub("", text, count=1)
    text = _BOLD.sub(r"\2", _HASHES.sub("", text))
    text = _MARKER.sub("", text)
    text = _CLOSING.sub("", text.strip())
    text = _HEADING.sub("", text)
    # A line that ends without a full stop was a sentence or a field of its own.
    lines = [" ".join(line.split()) for line in text.splitlines()]
    joined = " ".join(line if line.endswith((".", "!", "?", ":", ",", ";")) else f"{line}." for line in lines if line)
    for opening, closing in _QUOTES:
        if len(joined) > 1 and joined.rstrip(".").startswith(opening) and joined.rstrip(".").endswith(closing):
            joined = joined.rstrip(".")[1:-1]
    return joined.strip()


def reduce_words(text: str) -> str:
    """Text as Mammo-CLIP prepares its reports (L 2.5): lower case, ASCII words, no sentences of two words or fewer."""
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    sentences = [re.findall(r"\w+", sentence) for sentence in re.split(r"[.!?;](?!\d)|\n", plain)]
    return " ".join(" ".join(words) for words in sentences if len(words) > 2)
