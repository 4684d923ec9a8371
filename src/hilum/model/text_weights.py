"""A text encoder on disk: one safetensors file beside the image encoder's, and the tokenizer as its library writes it.

A frozen language model is not in the file, which names it instead; a tuned one is. The tokenizer of a learned
vocabulary is made of pieces of the texts: keep both files as private as those.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError
from tokenizers import Tokenizer
from torch import nn

from hilum.atomic import write_atomic
from hilum.config import TextEncoderConfig
from hilum.errors import UserError
from hilum.text.language_model_folder import name_language_model

from .text_encoder import TextEncoder, build_language_model, load_language_model
from .towers.files import read_any_tensors
from .weights import read_metadata, write_tensors

FORMAT = "hilum-text-encoder-1"
ENCODER_FILE, TOKENIZER_FILE = "text_encoder.safetensors", "tokenizer.json"
_CONFIG = TypeAdapter(TextEncoderConfig)
_FROZEN = "language_model."


def save_text_encoder(folder: Path, encoder: TextEncoder, tokenizer: str, metadata: Mapping[str, Any]) -> None:
    """Write both files into a run folder; the header's config says the casing of texts.

    Args:
        tokenizer: The JSON of the tokenizers library.
        metadata: What JSON can hold, and the reader should know: `scale`, by which cosines are multiplied.
    """
    weights = {
        name: value.detach().cpu().contiguous()
        for name, value in encoder.state_dict().items()
        if encoder.config.tuned or not name.startswith(_FROZEN)
    }
    config = _CONFIG.dump_python(encoder.config, mode="json")
    write_tensors(folder / ENCODER_FILE, weights, {"format": FORMAT, "text_encoder": config, **metadata})
    write_atomic(folder / TOKENIZER_FILE, tokenizer)


def load_text_encoder(
    folder: Path, language_model: Path | None = None
) -> tuple[TextEncoder, Tokenizer, dict[str, Any]]:
    """The text encoder of a run folder in evaluation mode, its tokenizer, and its metadata.

    Args:
        folder: The run's.
        language_model: The folder of a frozen language model, the one that the run read.

    Raises:
        UserError: the run learned from no texts; its language model is needed, is another than the run's, or is given
            where the run has one of its own; the file is not what was written.
    """
    path = folder / ENCODER_FILE
    if not path.is_file():
        raise UserError(f"{path} is missing: this run compared images with no texts, or is not finished.")
    header = read_metadata(path)
    if header.get("format") != FORMAT:
        raise UserError(f"{path}: its format is {header.get('format')!r}, this Hilum reads {FORMAT!r}.")
    try:
        config = _CONFIG.validate_python(header["text_encoder"])
    except ValidationError as error:
        raise UserError(f"{path}: {error.errors()[0]['msg']}. Was it written by another version of Hilum?") from error
    if config.tuned and language_model is not None:
        raise UserError(f"{path}: this run trained a language model of its own: leave --language-model out.")
    is_own, shape = config.tuned, config.language_model
    model = build_language_model(shape) if is_own else _load_frozen(path, config, language_model)
    encoder, weights = TextEncoder(config, model), read_any_tensors(path)
    own = {name for name in encoder.state_dict() if config.tuned or not name.startswith(_FROZEN)}
    if own != weights.keys():
        raise UserError(f"{path}: its tensors are not those of its own config. Copy the file again.")
    encoder.load_state_dict(weights, strict=False)
    return encoder.eval(), Tokenizer.from_file(str(folder / TOKENIZER_FILE)), header


def _load_frozen(path: Path, config: TextEncoderConfig, folder: Path | None) -> nn.Module:
    assert config.source is not None, "a frozen language model is one that somebody named"
    if folder is None:
        raise UserError(
            f"{path}: reads texts by {config.source.name}, which is not in the file: say where it is "
            "(--language-model FOLDER)."
        )
    if (found := name_language_model(folder)[0]).sha256 != config.source.sha256:
        raise UserError(
            f"{folder}: not the language model of the run (sha256 {found.sha256[:16]}, expected "
            f"{config.source.sha256[:16]}, of {config.source.name})."
        )
    return load_language_model(folder)
