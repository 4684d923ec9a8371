"""A language model in this process, by the transformers library: its own chat template, batches padded on the left."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from hilum.errors import UserError

from .language_model import Completion, Failure, Request


class TransformersModel:
    """A causal model and its tokenizer.

    A batch is drawn by the seed of its first request, so an answer also depends on what it was drawn together with;
    answers that were kept are not drawn again.
    """

    concurrency = 1

    def __init__(self, model: Any, tokenizer: Any, name: str, *, batch_size: int = 8) -> None:
        """`model` and `tokenizer`: of transformers; `name`: what the model is called in keys and reports."""
        self.name, self.batch_size = name, batch_size
        self._model, self._tokenizer = model.eval(), tokenizer
        if tokenizer.pad_token_id is None:
            tokenizer.pad_token = tokenizer.eos_token
        self._ends = _list_ends(model, tokenizer)

    def complete(self, requests: Sequence[Request]) -> list[Completion | Failure]:
        params = {(one.params.temperature, one.params.top_p, one.params.max_tokens) for one in requests}
        if len(params) > 1:  # one call draws all in one way
            return [answer for request in requests for answer in self.complete([request])]
        ((temperature, top_p, max_tokens),) = params
        texts = [self._render(request) for request in requests]
        inputs = self._tokenizer(
            texts, return_tensors="pt", padding=True, padding_side="left", add_special_tokens=False
        ).to(self._model.device)
        inputs = {name: inputs[name] for name in ("input_ids", "attention_mask")}
        drawing = {"do_sample": True, "temperature": temperature, "top_p": top_p} if temperature > 0 else {}
        devices = [self._model.device] if self._model.device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices), torch.inference_mode():
            torch.manual_seed(requests[0].params.seed)
            written = self._model.generate(
                **inputs, max_new_tokens=max_tokens, pad_token_id=self._tokenizer.pad_token_id,
                **({"do_sample": False} | drawing),
            )  # fmt: skip
        start = inputs["input_ids"].shape[1]
        lengths = inputs["attention_mask"].sum(dim=1).tolist()
        return [self._read(ids, length) for ids, length in zip(written[:, start:].tolist(), lengths, strict=True)]

    def _render(self, request: Request) -> str:
        messages = request.prompt.list_messages()
        if self._tokenizer.chat_template is None:
            return "\n\n".join(message["content"] for message in messages) + "\n\n"
        return self._tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)

    def _read(self, ids: list[int], prompt_tokens: int) -> Completion | Failure:
        end = next((place for place, token in enumerate(ids) if token in self._ends), None)
        kept = ids[:end]
        text = self._tokenizer.decode(kept, skip_special_tokens=True)
        if not text.strip():
            return Failure("an empty answer")
        return Completion(text, "length" if end is None else "stop", prompt_tokens, len(kept), self.name)


def load_transformers_model(path: str, *, batch_size: int = 8, allow_remote: bool = False) -> TransformersModel:
    """A model of a local folder; nothing is downloaded unless `allow_remote`, and no code of its own is run.

    Raises:
        UserError: it cannot be read.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(path, local_files_only=not allow_remote)
        model = AutoModelForCausalLM.from_pretrained(path, local_files_only=not allow_remote, dtype="auto")
    except (OSError, ValueError) as error:
        first = str(error).splitlines()[0]
        raise UserError(
            f"{path}: no language model that transformers can read ({first}). Give a local folder, or --allow-remote "
            "to download one by its name."
        ) from error
    if torch.cuda.is_available():
        model = model.to("cuda")
    return TransformersModel(model, tokenizer, Path(path).name or path, batch_size=batch_size)


def _list_ends(model: Any, tokenizer: Any) -> set[int]:
    ends = model.generation_config.eos_token_id
    listed = ends if isinstance(ends, list) else [ends]
    return {end for end in (*listed, tokenizer.eos_token_id) if end is not None}
