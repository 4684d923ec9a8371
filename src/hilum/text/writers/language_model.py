"""What a language model that writes text is asked, and what it answers (L 2.4)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Protocol, runtime_checkable


@dataclass(frozen=True)
class ChatPrompt:
    """A system message and a user's."""

    system: str
    user: str

    def list_messages(self) -> list[dict[str, str]]:
        return [{"role": "system", "content": self.system}, {"role": "user", "content": self.user}]


@dataclass(frozen=True)
class SamplingParams:
    """How an answer is drawn."""

    seed: int
    temperature: float = 0.8
    """0: the likeliest word each time."""
    top_p: float = 0.95
    max_tokens: int = 256


@dataclass(frozen=True)
class Request:
    """One text to be written."""

    prompt: ChatPrompt
    params: SamplingParams
    prompt_version: str
    record_hash: str
    """Of what the prompt is about, ids left out."""


@dataclass(frozen=True)
class Completion:
    """A text as the model wrote it."""

    text: str
    finish_reason: str
    """stop, or length where it was cut."""
    prompt_tokens: int
    completion_tokens: int
    model: str
    """As the model calls itself."""


@dataclass(frozen=True)
class Failure:
    """No text, and why."""

    reason: str


@runtime_checkable
class LanguageModel(Protocol):
    """Anything that answers requests."""

    @property
    def name(self) -> str:
        """Part of the key under which answers are kept."""
        ...

    @property
    def batch_size(self) -> int:
        """Requests that are answered at once."""
        ...

    @property
    def concurrency(self) -> int:
        """Batches that may be under way at a time."""
        ...

    def complete(self, requests: Sequence[Request]) -> list[Completion | Failure]:
        """An answer for each request, in order.

        Raises:
            UserError: nothing of the kind can be answered (no such model, no access), so that going on is no use.
        """
        ...


def hash_request(request: Request, model: str) -> str:
    """The key of an answer: what it is about, the prompt's version and words, the model, and how it is drawn."""
    parts = [request.record_hash, request.prompt_version, asdict(request.prompt), model, asdict(request.params)]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]
