"""The text tower of MV-MLM: a BERT-like language model, a small transformer over its states, one vector (L 1.4).

A frozen language model has no gradient and drops nothing, so that what it makes of a text is always the same: its
states can be stored once (`text/states.py`), and the encoder then holds no language model at all.
"""

from __future__ import annotations

from pathlib import Path

import torch
from jaxtyping import Bool, Float, Int64
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import AutoModel, BertConfig, BertModel

from hilum.batch import Descriptions
from hilum.config import LanguageModelConfig, TextEncoderConfig
from hilum.errors import UserError

from .attention import BlockNorm, build_block, enter_blocks
from .init import initialize
from .pooling import TokenPool


class TextEncoder(nn.Module):
    """Texts to one vector each: of their tokens, or of states that a language model made of these before."""

    def __init__(self, config: TextEncoderConfig, language_model: nn.Module | None) -> None:
        """Fresh weights, but for the language model's; None: texts come as stored states."""
        super().__init__()
        self.config = config
        self.language_model = language_model
        if language_model is not None:
            language_model.requires_grad_(config.tuned)
            for part in language_model.modules():
                if isinstance(part, nn.Dropout):
                    part.p = config.dropout if config.tuned else 0.0
        self.enter = nn.Linear(config.language_model.width, config.width)
        self.blocks = nn.ModuleList(
            build_block(config.width, config.heads, config.mlp_ratio, qk_norm=False, dropout=config.dropout)
            for _ in range(config.depth)
        )
        self.norm = BlockNorm(config.width)
        self.pool = TokenPool(config.width, config.pooling)
        self.project = nn.Linear(config.width, config.projection)
        for part in (self.enter, self.blocks, self.pool, self.project):
            initialize(part, "xavier")
        self.train()  # a module begins in training mode without being told: a frozen language model must be

    def train(self, mode: bool = True) -> TextEncoder:
        """A frozen language model stays in evaluation mode."""
        super().train(mode)
        if self.language_model is not None and not self.config.tuned:
            self.language_model.eval()
        return self

    def forward(self, texts: Descriptions) -> Float[Tensor, "text embedded"]:
        """The projected vector of each text, in 32 bit; padding is never read."""
        if not len(texts.owner):
            # Reaches every parameter, so that processes without texts stay in step.
            zero = sum(parameter.sum() for parameter in self.parameters() if parameter.requires_grad)
            return (0.0 * torch.as_tensor(zero)) * texts.tokens.new_zeros(0, self.config.projection).float()
        valid = torch.arange(texts.tokens.shape[1], device=texts.length.device) < texts.length[:, None]
        tokens = enter_blocks(self.enter(self._find_states(texts, valid)))
        for block in self.blocks:
            tokens = block(tokens, attn_mask=valid[:, None, None])
        return self.project(self.pool(self.norm(tokens.float()), valid)).float()

    def _find_states(self, texts: Descriptions, valid: Bool[Tensor, "text token"]) -> Float[Tensor, "text token dim"]:
        if self.language_model is None:
            assert texts.states.shape[:2] == texts.tokens.shape, "texts without states, and no language model"
            return texts.states.float()
        return run_language_model(self.language_model, texts.tokens, valid, trains=self.config.tuned)


def run_language_model(
    model: nn.Module, tokens: Int64[Tensor, "text token"], valid: Bool[Tensor, "text token"], *, trains: bool = False
) -> Float[Tensor, "text token dim"]:
    """The last hidden states; without a graph unless the model is trained."""
    with torch.set_grad_enabled(trains and torch.is_grad_enabled()):
        return model(input_ids=tokens, attention_mask=valid.long()).last_hidden_state


def build_language_model(shape: LanguageModelConfig) -> nn.Module:
    """A BERT encoder of this shape with random weights from torch's default generator."""
    return BertModel(
        BertConfig(
            vocab_size=shape.vocabulary_size, hidden_size=shape.width, num_hidden_layers=shape.depth,
            num_attention_heads=shape.heads, intermediate_size=shape.hidden, max_position_embeddings=shape.positions,
        ),
        add_pooling_layer=False,
    )  # fmt: skip


def load_language_model(folder: Path) -> nn.Module:
    """A language model from a folder that transformers wrote, in 32 bit; nothing is downloaded, no code of its is run.

    Raises:
        UserError: no such folder, no encoder of text, or weights that do not fit its config.
    """
    if not (folder / "config.json").is_file():
        raise UserError(f"{folder}: expected a folder with config.json, weights and vocab.txt or tokenizer.json.")
    try:
        model, found = AutoModel.from_pretrained(
            folder, local_files_only=True, dtype=torch.float32, output_loading_info=True
        )
    except (OSError, ValueError, ImportError, RuntimeError, SafetensorError) as error:
        raise UserError(f"{folder}: transformers cannot read it ({str(error).splitlines()[0]}).") from error
    lacking = [str(name) for name in found["missing_keys"] if "pooler" not in str(name)]
    if lacking or found["mismatched_keys"]:
        names = ", ".join([*lacking, *map(str, found["mismatched_keys"])][:3])
        raise UserError(f"{folder}: its weights do not fit its config.json ({names}). Copy the folder again.")
    if getattr(model, "pooler", None) is not None:
        model.pooler = None  # of another use: it would be trained by nothing
    return model
