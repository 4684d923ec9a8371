"""The folder of a BERT-like language model as transformers writes it: what of it a run records, and its vocabulary."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from tokenizers import Tokenizer
from tokenizers.implementations import BertWordPieceTokenizer

from hilum.checksums import hash_file
from hilum.config import LanguageModelConfig, LanguageModelFile
from hilum.errors import UserError

_PARTS = ("config.json", "vocab.txt", "tokenizer.json", "model.safetensors", "pytorch_model.bin")


def name_language_model(folder: Path) -> tuple[LanguageModelFile, LanguageModelConfig]:
    """Name and hash of the folder's files, and the model's shape.

    Raises:
        UserError: no such folder, or the config of another kind of model.
    """
    there = [name for name in _PARTS if (folder / name).is_file()]
    if "config.json" not in there:
        raise UserError(f"{folder}: expected a folder with config.json, weights and vocab.txt or tokenizer.json.")
    digest = hashlib.sha256("".join(f"{name} {hash_file(folder / name)}\n" for name in there).encode())
    try:
        about = json.loads((folder / "config.json").read_bytes())
        shape = LanguageModelConfig(
            about["vocab_size"], about["hidden_size"], about["num_hidden_layers"], about["num_attention_heads"],
            about["intermediate_size"], about["max_position_embeddings"],
        )  # fmt: skip
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{folder / 'config.json'}: not the config of a BERT-like encoder ({error}).") from error
    return LanguageModelFile(folder.resolve().name, digest.hexdigest()), shape


def read_vocabulary(folder: Path, *, lower_case: bool) -> Tokenizer:
    """The folder's WordPiece vocabulary, with casing as the settings say and not as a default of some library (L 1.4).

    Raises:
        UserError: no WordPiece vocabulary, or one of another casing: of lower-case words in a cased vocabulary, or the
            other way round, many would be unknown.
    """
    if (folder / "vocab.txt").is_file():
        words = {word: place for place, word in enumerate((folder / "vocab.txt").read_text().splitlines())}
    elif (folder / "tokenizer.json").is_file():
        model = json.loads((folder / "tokenizer.json").read_bytes())["model"]
        if model.get("type") != "WordPiece":
            raise UserError(
                f"{folder / 'tokenizer.json'}: a {model.get('type')} vocabulary; expected BERT's WordPiece."
            )
        words = model["vocab"]
    else:
        raise UserError(f"{folder}: has no vocabulary; expected vocab.txt or tokenizer.json.")
    is_cased = any(word != word.lower() for word in words if not (word.startswith("[") and word.endswith("]")))
    if is_cased == lower_case:
        found, flag = (
            ("cased", "--text-encoder.no-lower-case") if is_cased else ("lower-case", "--text-encoder.lower-case")
        )
        raise UserError(f"{folder}: its vocabulary is {found}, text_encoder.lower_case is {lower_case}: set {flag}.")
    missing = [word for word in ("[PAD]", "[UNK]", "[CLS]", "[SEP]") if word not in words]
    if missing:
        raise UserError(f"{folder}: its vocabulary has no {', '.join(missing)}; expected a BERT-like one.")
    made = BertWordPieceTokenizer(words, lowercase=lower_case, strip_accents=lower_case)
    return Tokenizer.from_str(made.to_str())
