"""Many requests to a language model: what is known already is not asked, what comes is kept at once."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from datetime import timedelta
from itertools import islice

from rich.console import Console

from hilum.errors import UserError
from hilum.progress import LiveBar

from .completion_store import CompletionStore
from .language_model import Completion, Failure, LanguageModel, Request, hash_request


def complete_all(
    model: LanguageModel,
    requests: Sequence[Request],
    store: CompletionStore,
    *,
    price: float = 0.0,
    most_failures: int | None = 20,
    console: Console | None = None,
) -> list[Completion | Failure]:
    """An answer for each request; those that the store has are not asked again, its failures are.

    Args:
        model: asked `model.concurrency` batches at a time.
        requests: what to ask; equal ones are asked once.
        store: where answers are found and kept.
        price: of a million tokens, read or written; 0: no cost is shown.
        most_failures: in a row; more, and it ends. None: it goes on.
        console: where progress goes; None: the terminal's error output.

    Raises:
        UserError: the model refuses, or failed too often in a row; what was answered is kept.
    """
    keys = [hash_request(request, model.name) for request in requests]
    open_requests = {
        key: request for key, request in zip(keys, requests, strict=True) if not isinstance(store.find(key), Completion)
    }
    with _Counter(len(open_requests), price, console) as counter:
        reasons: list[str] = []  # of the last answers, as far as they are failures
        batches = _cut(list(open_requests.items()), model.batch_size)
        for batch, answers in _ask(model, batches):
            for (key, _), answer in zip(batch, answers, strict=True):
                store.add(key, answer)
                counter.count(answer)
                reasons = [*reasons, answer.reason] if isinstance(answer, Failure) else []
            if most_failures is not None and len(reasons) > most_failures:
                raise UserError(
                    f"{model.name} failed {len(reasons)} times in a row, at last with: {reasons[-1]}. What was "
                    f"answered is kept in {store.path}; the same command goes on from there."
                )
    found = [store.find(key) for key in keys]
    assert None not in found
    return [answer for answer in found if answer is not None]


_Batch = list[tuple[str, Request]]


def _cut(items: _Batch, size: int) -> Iterable[_Batch]:
    return (items[start : start + size] for start in range(0, len(items), size))


def _ask(model: LanguageModel, batches: Iterable[_Batch]) -> Iterable[tuple[_Batch, list[Completion | Failure]]]:
    """Batches as they are answered; an error of one ends it all, once those under way have come back."""
    waiting = iter(batches)
    with ThreadPoolExecutor(model.concurrency, thread_name_prefix="writer") as pool:
        running: dict[Future[list[Completion | Failure]], _Batch] = {}

        def start(num: int) -> None:
            for batch in islice(waiting, num):
                running[pool.submit(model.complete, [request for _, request in batch])] = batch

        start(model.concurrency)
        while running:
            done, _ = wait(running, return_when=FIRST_COMPLETED)
            finished = [(running.pop(future), future) for future in done]
            failed = next((future.exception() for _, future in finished if future.exception()), None)
            for batch, future in finished:
                if future.exception() is None:
                    yield batch, future.result()
            if failed is not None:
                raise failed
            start(len(done))


class _Counter(LiveBar):
    """Answers, failures, tokens, cost and time left."""

    def __init__(self, num: int, price: float, console: Console | None) -> None:
        super().__init__("texts", num, console=console, silent=not num)
        self._num, self._price = num, price
        self._done = self._failed = self._read = self._written = 0
        self._begin = time.monotonic()

    def count(self, answer: Completion | Failure) -> None:
        self._done += 1
        if isinstance(answer, Failure):
            self._failed += 1
        else:
            self._read += answer.prompt_tokens
            self._written += answer.completion_tokens
        line = f"texts {self._done}/{self._num}  {self.describe()}"
        self.show(self._done, self.describe(), line, is_due=self._done == self._num)

    def describe(self) -> str:
        """What was used so far, and what is left."""
        seconds = time.monotonic() - self._begin
        left = timedelta(seconds=round(seconds / self._done * (self._num - self._done)))
        words = [f"{left} left", f"{self._read + self._written:,} tokens ({self._written:,} written)"]
        if self._price:
            spent = (self._read + self._written) * self._price / 1e6
            words.append(f"cost {spent:.2f} of about {spent / self._done * self._num:.2f}")
        if self._failed:
            words.append(f"{self._failed} failed")
        return "  ".join(words)
