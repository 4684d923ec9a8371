"""The two towers of a run that compared images with texts: vectors of prompts, and views as images of its encoder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from hilum.batch import Descriptions
from hilum.cache import Cache
from hilum.checksums import hash_parts, hash_weights
from hilum.errors import UserError
from hilum.evaluate.features import Precision
from hilum.evaluate.subject import find_subject
from hilum.evaluate.viewing import Viewing, view_cache
from hilum.model.conv_encoder import ConvEncoder
from hilum.model.places import find_folder
from hilum.model.text_encoder import TextEncoder
from hilum.model.text_weights import load_text_encoder
from hilum.text.descriptions import tokenize_texts
from hilum.text.prompts import Prompts
from hilum.training.launch import choose_precision

_TEXTS_AT_ONCE = 64


@dataclass(frozen=True)
class Towers:
    """A run's image and text encoder in evaluation mode, on one device."""

    name: str
    viewing: Viewing
    image: ConvEncoder
    prompts: Mapping[str, tuple[Float[Tensor, "present dim"], Float[Tensor, "absent dim"]]]  # by target
    scale: float  # of cosines
    weights: str  # digest of both encoders
    seen: tuple[str, ...]  # what a reader must know of what it was pretrained on


def open_towers(
    cache: Cache,
    run: Path,
    prompts: Mapping[str, Prompts],
    *,
    split: str = "test",
    leave_out: Sequence[str] = (),
    language_model: Path | None = None,
    precision: Precision = "auto",
) -> Towers:
    """Load both encoders of a run, and read the prompts by its text encoder.

    Args:
        run: folder of a run of custom_clip, mv_clip, mv_clip_tr or mammo_clip.
        prompts: by target.
        split: what is asked of; the test split must not have been seen in pretraining.
        leave_out: archives of the cache that are not asked of.
        language_model: folder of the frozen language model that the run read, where it read one.

    Raises:
        UserError: the run compared no images with texts; test patients or images are in its record; a cache of other
            pixels; the language model is needed, or another; prompts of presence and absence that the run reads alike.
    """
    text, tokenizer, header = load_text_encoder(find_folder(run), language_model)
    subject = find_subject(run)
    seen = (
        subject.check_pretraining(cache, leave_out) if split == "test" else subject.describe_overlap(cache, leave_out)
    )
    viewing = replace(view_cache(cache, run, None, None, choose_precision(precision)), max_views=None)
    image = viewing.encoder
    if not isinstance(image, ConvEncoder):
        raise UserError(f"{run}: its image encoder makes no vector that was compared with texts.")
    for name, one in prompts.items():
        check_told_apart(name, one, tokenizer, text.config.length)
    device = next(image.parameters()).device
    text = text.to(device)
    vectors = {
        name: tuple(embed_texts(text, tokenizer, said) for said in (one.present, one.absent))
        for name, one in prompts.items()
    }
    return Towers(
        name=subject.name,
        viewing=viewing,
        image=image.eval(),
        prompts=vectors,  # ty: ignore[invalid-argument-type] - two of each
        scale=float(header["scale"]),
        weights=hash_parts([hash_weights(image), hash_weights(text)]),
        seen=seen,
    )


def check_told_apart(name: str, prompts: Prompts, tokenizer: Any, length: int) -> None:
    """Refuse a target of which presence and absence are the same tokens to the run: it would score all images alike.

    Raises:
        UserError: they are.
    """
    present, absent = (
        {tuple(ids): said for ids, said in zip(tokenize_texts(tokenizer, side, length), side, strict=True)}
        for side in (prompts.present, prompts.absent)
    )
    if both := present.keys() & absent.keys():
        one = min(both)
        raise UserError(
            f"[{name}]: the run reads {present[one]!r} (of presence) and {absent[one]!r} (of absence) as the same "
            f"{len(one)} tokens (at most {length}; letters it does not know, or their case, may be all that differs): "
            "say them in other words (--prompts FILE)."
        )


@torch.inference_mode()
def embed_texts(encoder: TextEncoder, tokenizer: Any, texts: Sequence[str]) -> Float[Tensor, "text dim"]:
    """The vector of each text, read as the run read its own: in the same tokens, cut at the same length."""
    ids = tokenize_texts(tokenizer, texts, encoder.config.length)
    parts = [ids[first : first + _TEXTS_AT_ONCE] for first in range(0, len(ids), _TEXTS_AT_ONCE)]
    return torch.cat([_embed_tokens(encoder, part) for part in parts])


def _embed_tokens(encoder: TextEncoder, ids: Sequence[Sequence[int]]) -> Float[Tensor, "text dim"]:
    length = torch.tensor([len(one) for one in ids])
    tokens = torch.zeros(len(ids), int(length.max()), dtype=torch.int64)  # what is beyond a text is never read
    for place, one in enumerate(ids):
        tokens[place, : len(one)] = torch.tensor(one)
    none = torch.zeros(len(ids), dtype=torch.int64)
    batch = Descriptions(
        tokens, length, torch.zeros(*tokens.shape, 0), torch.arange(len(ids)), none, none, none[:, None][:, :0].bool(),
        none.bool(),
    )  # fmt: skip
    device = next(encoder.parameters()).device
    return encoder(Descriptions(*(part.to(device) for part in batch)))
