"""Answers of language models on disk: one line of JSON each, found by the hash of what was asked.

Lines are appended as answers come, so that a killed run loses nothing but what was under way. Failures are lines too:
they are told, and asked again by the next run. No line holds a prompt or an id.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from threading import Lock
from typing import IO, Any

from hilum.errors import UserError

from .language_model import Completion, Failure, Request, hash_request


class CompletionStore:
    """Answers by key; the last line of a key counts."""

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        """Open or begin a file; what a kill left of a last line is removed. One that is `read_only` stays as it is.

        Raises:
            UserError: a line that is no answer, or there is no file to read.
        """
        self.path, self._lock = path, Lock()
        self._answers: dict[str, Completion | Failure] = {}
        self._file: IO[bytes] | None = None
        if read_only and not path.is_file():
            raise UserError(
                f"{path}: there is no such file of answers to replay. --answers names the one that an earlier "
                "`hilum text write` kept."
            )
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            self._read(mends=not read_only)
        if not read_only:
            self._file = path.open("ab")

    def __enter__(self) -> CompletionStore:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file:
            self._file.close()

    def __len__(self) -> int:
        return len(self._answers)

    def find(self, key: str) -> Completion | Failure | None:
        return self._answers.get(key)

    def add(self, key: str, answer: Completion | Failure) -> None:
        """Keep an answer; it is on the disk when this returns, but for a file that is only read."""
        kind = "failure" if isinstance(answer, Failure) else "completion"
        line = json.dumps({"key": key, kind: asdict(answer)}) + "\n"
        with self._lock:
            self._answers[key] = answer
            if self._file:
                self._file.write(line.encode())
                self._file.flush()
                os.fsync(self._file.fileno())

    def _read(self, *, mends: bool) -> None:
        content = self.path.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        if mends and len(whole) < len(content):
            with self.path.open("r+b") as file:
                file.truncate(len(whole))
        for number, line in enumerate(whole.splitlines(), start=1):
            try:
                entry: dict[str, Any] = json.loads(line)
                kind = Failure if "failure" in entry else Completion
                self._answers[entry["key"]] = kind(**entry["failure" if kind is Failure else "completion"])
            except (ValueError, KeyError, TypeError) as error:
                raise UserError(
                    f"{self.path}, line {number}: not an answer of a language model ({error}). Name another file, or "
                    "delete this line."
                ) from error


class Replay:
    """A model that only knows what a store holds."""

    batch_size, concurrency = 64, 1

    def __init__(self, store: CompletionStore, name: str) -> None:
        """`name`: of the model whose answers are replayed."""
        self.name, self._store = name, store

    def complete(self, requests: Sequence[Request]) -> list[Completion | Failure]:
        answers = (self._store.find(hash_request(request, self.name)) for request in requests)
        return [answer or Failure(f"not in {self._store.path.name}") for answer in answers]
