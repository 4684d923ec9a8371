"""A BERT of a few thousand weights in a folder, as transformers writes it, with a cased vocabulary."""

from __future__ import annotations

from pathlib import Path

import torch

from hilum.config import LanguageModelConfig
from hilum.model.text_encoder import build_language_model

WORDS = [
    "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "A", "small", "medium", "large", "dense", "pale", "mass", "in",
    "the", "upper", "lower", "breast", ".", "Left", "left", "##s",
]  # fmt: skip
SHAPE = LanguageModelConfig(300, 16, 2, 2, 32, 24)


def write_language_model(folder: Path, words: list[str] = WORDS) -> Path:
    torch.manual_seed(3)
    model = build_language_model(SHAPE)
    model.save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(words) + "\n")
    return folder
