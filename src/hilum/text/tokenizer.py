"""From words to token ids: a vocabulary learned from reports, or one that exists (the tokenizers library)."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from hilum.errors import UserError
from hilum.wording import say_no_file

PAD, UNKNOWN, START, END = "[PAD]", "[UNK]", "[CLS]", "[SEP]"  # BERT's names
# What others call them, for a tokenizer.json of any family.
_NAMES = {
    PAD: (PAD, "<pad>"),
    UNKNOWN: (UNKNOWN, "<unk>"),
    START: (START, "<s>", "[BOS]", "<bos>"),
    END: (END, "</s>", "[EOS]", "<eos>"),
}


def train_tokenizer(texts: Iterable[str], vocabulary_size: int) -> Tokenizer:
    """A lower-case byte-level BPE vocabulary (Sennrich et al. 2016; Radford et al. 2019), the same for the same texts.

    Bytes, because every text of every language can then be written, accents included, with no unknown token; and
    because the library's WordPiece trainer breaks ties by the order of a hash table, so that each run learns another
    vocabulary. Its tokens are pieces of the texts it learned from: keep it as private as these.

    Args:
        texts: Reports of the training split.
        vocabulary_size: Tokens at most, the 256 bytes and four special ones included.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary_size,
        min_frequency=2,
        special_tokens=[PAD, UNKNOWN, START, END],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def read_tokenizer(path: Path) -> Tokenizer:
    """A given vocabulary: BERT's vocab.txt (lower-case WordPiece), or a tokenizer.json of any family.

    Raises:
        UserError: no such file, not of these kinds, or without a token for padding, unknown words, start or end.
    """
    if not path.is_file():
        raise UserError(f"{path}: {say_no_file(path)}; expected a vocab.txt or a tokenizer.json.")
    try:
        if path.suffix == ".txt":
            tokenizer = Tokenizer(models.WordPiece(models.WordPiece.read_file(str(path)), unk_token=UNKNOWN))
            tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
            tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
            tokenizer.decoder = decoders.WordPiece()
        else:
            tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises nothing more particular
        raise UserError(f"{path}: not a vocabulary ({error}); expected a vocab.txt or a tokenizer.json.") from error
    found = [find_special(tokenizer, name) for name in _NAMES]
    missing = [name for name, place in zip(_NAMES, found, strict=True) if place is None]
    if missing:
        raise UserError(
            f"{path}: has no token {', '.join(missing)}, which texts need; expected a BERT-like vocabulary."
        )
    tokenizer.add_special_tokens([tokenizer.id_to_token(place) for place in found if place is not None])
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def find_special(tokenizer: Tokenizer, name: str) -> int | None:
    """The id of PAD, UNKNOWN, START or END, under whichever name this family of tokenizers has it."""
    places = (tokenizer.token_to_id(other) for other in _NAMES[name])
    return next((place for place in places if place is not None), None)
