"""A small language model that already knows the words of reports, as a clinical BERT does: it has guessed masked words
(Devlin et al. 2019) in texts of breasts to learn from, and is read by the arms to which a language model is given.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Int64
from tokenizers import pre_tokenizers
from torch import Tensor
from transformers import BertConfig, BertForMaskedLM

from evidence.mammogram_caches import WORK
from evidence.mammogram_texts import name_texts
from hilum.cache import SPLITS, Cache
from hilum.text.language_model_folder import read_vocabulary

FOLDER = WORK / "language-model"
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
PAD, CLS, SEP, MASK = (SPECIAL.index(name) for name in ("[PAD]", "[CLS]", "[SEP]", "[MASK]"))
WIDTH, DEPTH, HEADS, HIDDEN, LENGTH = 128, 2, 4, 256, 128  # as the arms' own, which are trained with them
LEAST_WORDS = 300  # of a vocabulary in `LanguageModelConfig`
STEPS, BATCH, LR, HIDDEN_SHARE = 1500, 64, 1e-3, 0.15


def prepare_language_model(cache: Cache) -> None:
    """Write the folder where it is missing, its last loss beside it."""
    if (FOLDER / "loss.txt").exists():
        return
    texts = list_training_texts(cache)
    FOLDER.mkdir(parents=True, exist_ok=True)
    words = list_words(texts)
    (FOLDER / "vocab.txt").write_text("\n".join(words) + "\n")
    torch.manual_seed(0)
    model = BertForMaskedLM(
        BertConfig(
            vocab_size=len(words), hidden_size=WIDTH, num_hidden_layers=DEPTH, num_attention_heads=HEADS,
            intermediate_size=HIDDEN, max_position_embeddings=LENGTH,
        )
    )  # fmt: skip
    loss = guess_words(model, encode_texts(texts, FOLDER))
    model.bert.save_pretrained(FOLDER)
    (FOLDER / "loss.txt").write_text(f"{loss:.3f}\n")


def list_training_texts(cache: Cache) -> list[str]:
    """Those of the training split, in our grammar's words."""
    keys = ["dataset", "study"]
    train = cache.table().filter(split=SPLITS[0]).select(keys)
    return pl.read_parquet(name_texts("varied")).join(train, on=keys, how="semi")["text"].unique().sort().to_list()


def list_words(texts: Sequence[str]) -> list[str]:
    """A WordPiece vocabulary: all their words in lower case, characters for words that they have not, and unused ones
    where these are few, as BERT's has."""
    split = pre_tokenizers.BertPreTokenizer()
    words = {word for text in texts for word, _ in split.pre_tokenize_str(text.lower())}
    characters = {character for word in words for character in word}
    found = [*SPECIAL, *sorted(words | characters), *sorted(f"##{character}" for character in characters)]
    return [*found, *(f"[unused{place}]" for place in range(len(found), LEAST_WORDS))]


def encode_texts(texts: Sequence[str], folder: Path) -> Int64[np.ndarray, "text token"]:
    """Their tokens, start and end included, cut to `LENGTH` and padded."""
    tokenizer = read_vocabulary(folder, lower_case=True)
    tokens = np.full((len(texts), LENGTH), PAD)
    for row, one in zip(tokens, tokenizer.encode_batch(list(texts), add_special_tokens=False), strict=True):
        ids = [CLS, *one.ids[: LENGTH - 2], SEP]
        row[: len(ids)] = ids
    return tokens


def guess_words(model: BertForMaskedLM, tokens: Int64[np.ndarray, "text token"]) -> float:
    """Train it to guess hidden words; the mean loss of the last tenth of the steps, in nats."""
    random, losses = torch.Generator().manual_seed(0), []
    optimizer = torch.optim.AdamW(model.parameters(), lr=LR)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LR, STEPS, pct_start=0.1)
    every = torch.from_numpy(tokens)
    model.train()
    for _ in range(STEPS):
        shown = every[torch.randint(len(every), (BATCH,), generator=random)]
        shown = shown[:, : int((shown != PAD).sum(dim=1).max())]
        hidden = hide_words(shown, random)
        with torch.autocast("cpu", torch.bfloat16):
            guessed = model(input_ids=shown.masked_fill(hidden, MASK), attention_mask=(shown != PAD).long()).logits
        loss = F.cross_entropy(guessed[hidden].float(), shown[hidden])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
    return float(np.mean(losses[-STEPS // 10 :]))


def hide_words(shown: Int64[Tensor, "text token"], random: torch.Generator) -> Bool[Tensor, "text token"]:
    """Which words are hidden: a share of all, and none of start, end and padding."""
    drawn = torch.rand(shown.shape, generator=random) < HIDDEN_SHARE
    return drawn & (shown >= len(SPECIAL))
