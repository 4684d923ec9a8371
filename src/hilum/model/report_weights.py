"""A report decoder on disk: one safetensors file beside the encoder's, and the tokenizer as its own library writes it.

The decoder's table of words is made of pieces of the reports it learned from: keep both files as private as those.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from pydantic import TypeAdapter, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from tokenizers import Tokenizer
from torch import Tensor

from hilum.atomic import write_atomic
from hilum.config import EncoderConfig
from hilum.config import ReleasedReportDecoder as ReleasedReportDecoderConfig
from hilum.config import ReportDecoder as ReportDecoderConfig
from hilum.errors import UserError
from hilum.text.report_tokens import TextLayout

from .report_decoder import AnyReportDecoder, build_report_decoder

FORMAT = "hilum-report-decoder-1"
DECODER_FILE, TOKENIZER_FILE = "report_decoder.safetensors", "tokenizer.json"
_CONFIG = TypeAdapter(ReportDecoderConfig | ReleasedReportDecoderConfig)
_ENCODER = TypeAdapter(EncoderConfig)


def save_report_decoder(
    folder: Path,
    decoder: AnyReportDecoder,
    tokenizer: str,
    *,
    config: ReportDecoderConfig | ReleasedReportDecoderConfig,
    encoder: EncoderConfig,
    layout: TextLayout,
    view_table: Float[Tensor, "kind dim"] | None,
    metadata: dict[str, Any],
) -> None:
    """Write both files into a run folder.

    Args:
        tokenizer: The JSON of the tokenizers library.
        view_table: Vectors of view kinds that the decoder reads from another module; None: it has its own, or none.
        metadata: What JSON can hold: `memory` ("study" or "view"), and what else the reader should know.
    """
    weights = decoder.state_dict()
    if view_table is not None:
        assert isinstance(config, ReleasedReportDecoderConfig)
        weights["view_embed"], config = view_table, replace(config, view_table="own")
    header = {
        "format": FORMAT,
        "decoder": _CONFIG.dump_python(config, mode="json"),
        "encoder": _ENCODER.dump_python(encoder, mode="json"),
        "layout": layout._asdict(),
        **metadata,
    }
    tensors = {name: value.detach().float().cpu().contiguous() for name, value in weights.items()}
    write_atomic(folder / DECODER_FILE, save(tensors, metadata={"hilum": json.dumps(header, sort_keys=True)}))
    write_atomic(folder / TOKENIZER_FILE, tokenizer)


def load_report_decoder(folder: Path) -> tuple[AnyReportDecoder, TextLayout, dict[str, Any]]:
    """The decoder of a run folder in evaluation mode, the layout of its texts, and its metadata.

    Raises:
        UserError: the run learned from no reports, or the file is damaged or of another version.
    """
    path = folder / DECODER_FILE
    if not path.is_file():
        raise UserError(
            f"{path} is missing: this run learned from no reports, or is not finished. `hilum pretrain mvmae_v2t` "
            "makes one that writes them."
        )
    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {}).get("hilum", "{}"))
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
        if header.get("format") != FORMAT:
            raise UserError(f"{path}: its format is {header.get('format')!r}, this Hilum reads {FORMAT!r}.")
        layout = TextLayout(**header["layout"])
        with torch.device("meta"):  # shapes only
            decoder = build_report_decoder(
                _CONFIG.validate_python(header["decoder"]), _ENCODER.validate_python(header["encoder"]), layout
            )
        decoder.load_state_dict(weights, assign=True)
    except (SafetensorError, ValidationError, RuntimeError) as error:
        first = str(error).splitlines()[0]
        raise UserError(f"{path}: not a whole report decoder of this version ({first}). Copy it again.") from error
    return decoder.eval(), layout, header


def load_tokenizer(folder: Path, layout: TextLayout) -> Tokenizer:
    """The tokenizer of a run folder, which makes words of what its report decoder writes.

    Raises:
        UserError: it is missing, damaged, or another run's.
    """
    path = folder / TOKENIZER_FILE
    advice = f"Copy it again from the run that wrote {DECODER_FILE} beside it."
    if not path.is_file():
        raise UserError(f"{path} is missing: without it, what the report decoder writes is numbers. {advice}")
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises nothing more particular
        raise UserError(f"{path}: not a tokenizer ({error}). {advice}") from error
    if tokenizer.get_vocab_size() != layout.num_words:
        raise UserError(
            f"{path}: has {tokenizer.get_vocab_size():,} tokens and the report decoder {layout.num_words:,}: it is "
            f"another run's. {advice}"
        )
    return tokenizer
