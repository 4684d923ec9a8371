"""What a frozen language model makes of every distinct text, stored once in 16 bit (L 1.4).

A file `<cache>/side/text-states-HASH.npy` of (token, dim), the texts one after the other as in the table of
descriptions, without padding, and memory-mapped: a text is read when a step shows it.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from hilum.atomic import open_atomic
from hilum.cache import Cache
from hilum.cache.side_table import name_side_table
from hilum.config import Config, ImageTextContrast, find_image_text
from hilum.errors import UserError
from hilum.model.text_encoder import load_language_model, run_language_model

from .descriptions import DescriptionTable, open_descriptions, shuffle_descriptions

BATCH = 32  # texts at a time, of nearly one length


def open_states(
    cache: Cache, table: DescriptionTable, source: str, folder: Path | None, device: torch.device | str = "cpu"
) -> DescriptionTable:
    """The table with its states, which are made where they are missing.

    Args:
        cache: The states' folder.
        table: The texts.
        source: Names the language model: the hash of its files.
        folder: Of the language model; None: states must be there already.
        device: Where it runs.

    Raises:
        UserError: states are missing, and no folder is given.
    """
    digest = hashlib.sha256(table.key.tobytes() + table.offset.tobytes() + table.tokens.tobytes()).hexdigest()
    path = name_side_table(cache, "text-states", {"texts": digest, "language_model": source}).with_suffix(".npy")
    if not path.exists():
        if folder is None:
            raise UserError(f"{path}: no states of the texts are stored. Say who makes them: --language-model FOLDER.")
        write_states(path, table, load_language_model(folder), device)
    return replace(table, states=np.load(path, mmap_mode="r", allow_pickle=False))


def open_texts(
    cache: Cache,
    config: Config,
    *,
    texts: Path | None,
    language_model: Path | None,
    device: torch.device | str = "cpu",
) -> tuple[DescriptionTable, nn.Module | None]:
    """What a run compares images with: the texts, and the language model that reads them in training, if any does.

    Args:
        cache: An opened cache.
        config: The run's.
        texts: The file of texts; None: report sections of the study table.
        language_model: The folder of the language model; None: of random weights, trained with the rest.
        device: Where states are made that are missing.

    Raises:
        UserError: see `open_descriptions` and `load_language_model`.
    """
    settings, name = config.text_encoder, find_image_text(config)
    assert settings is not None
    assert name is not None
    term = config.terms[name]
    assert isinstance(term, ImageTextContrast)
    table = open_descriptions(cache, config, num_texts=term.num_texts, texts=texts, language_model=language_model)
    if config.data.shuffle_reports:
        table = shuffle_descriptions(table, cache, config.seed, config.data.leave_out)
    if settings.source is None:
        return table, None
    if settings.tuned or not settings.stored:
        assert language_model is not None, "open_descriptions asks for it"
        return table, load_language_model(language_model)
    return open_states(cache, table, settings.source.sha256, language_model, device), None


@torch.no_grad()
def write_states(path: Path, table: DescriptionTable, model: nn.Module, device: torch.device | str = "cpu") -> None:
    """Run the model over every distinct text, shortest first, and write its last hidden states."""
    model = model.eval().to(device)
    embeddings: Any = model.get_submodule("embeddings")
    width = int(embeddings.word_embeddings.embedding_dim)
    length = np.diff(table.offset)
    order = np.argsort(length, kind="stable")
    path.parent.mkdir(exist_ok=True)
    with open_atomic(path) as file:
        about = {"descr": "<f2", "fortran_order": False, "shape": (len(table.tokens), width)}
        np.lib.format.write_array_header_2_0(file, about)
        begin = file.tell()
        for first in range(0, len(order), BATCH):
            chosen = order[first : first + BATCH]
            tokens = torch.full((len(chosen), int(length[chosen].max())), table.pad)
            for place, text in enumerate(chosen):
                tokens[place, : length[text]] = torch.from_numpy(
                    table.tokens[table.offset[text] : table.offset[text + 1]].astype(np.int64)
                )
            valid = torch.arange(tokens.shape[1]) < torch.from_numpy(length[chosen])[:, None]
            states = run_language_model(model, tokens.to(device), valid.to(device)).cpu().half().numpy()
            for place, text in enumerate(chosen):
                file.seek(begin + int(table.offset[text]) * width * 2)
                file.write(np.ascontiguousarray(states[place, : length[text]]).tobytes())
