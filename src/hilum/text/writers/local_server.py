"""A language model behind an OpenAI-compatible server (vLLM, llama.cpp, Ollama, LM Studio), on this machine by default.

Only `POST {address}/chat/completions` is used, with the fields that all of them read: model, messages, seed,
temperature, top_p, max_tokens. No proxy is asked and no redirect is followed, so that nothing leaves for anywhere else.
"""

from __future__ import annotations

import http.client
import ipaddress
import json
import os
import random
import time
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import urlsplit

from hilum.errors import UserError

from .language_model import Completion, Failure, Request

KEY_VARIABLE = "HILUM_MODEL_KEY"
_BUSY = (408, 425, 429, 500, 502, 503, 504)  # worth another try
_LONGEST_WAIT = 60.0  # seconds


class LocalServer:
    """A model of a server; answers come one at a time, some under way at once."""

    batch_size = 1

    def __init__(
        self,
        address: str,
        name: str,
        *,
        concurrency: int = 4,
        retries: int = 5,
        first_wait: float = 0.5,
        timeout: float = 300.0,
        allow_remote: bool = False,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """What is asked, and how patiently.

        Args:
            address: such as http://127.0.0.1:8000/v1.
            name: of the model, as the server calls it.
            concurrency: requests under way at a time.
            retries: further tries of a request when the server is busy or does not answer.
            first_wait: seconds before the first of them; each later one waits twice as long, or what the server says.
            timeout: seconds for one answer.
            allow_remote: also ask a server on another machine.

        The variable HILUM_MODEL_KEY is sent as the bearer token, if it is set.

        Raises:
            UserError: an address that is none, or of another machine.
        """
        self._parts = check_address(address, allow_remote=allow_remote)
        self.name, self.concurrency = name, concurrency
        self._retries, self._first_wait, self._timeout, self._sleep = retries, first_wait, timeout, sleep

    def complete(self, requests: Sequence[Request]) -> list[Completion | Failure]:
        return [self._complete(request) for request in requests]

    def _complete(self, request: Request) -> Completion | Failure:
        params = request.params
        body = json.dumps(
            {
                "model": self.name,
                "messages": request.prompt.list_messages(),
                "seed": params.seed,
                "temperature": params.temperature,
                "top_p": params.top_p,
                "max_tokens": params.max_tokens,
                "stream": False,
            }
        )
        reason, asked = "", 0.0
        for attempt in range(self._retries + 1):
            if attempt:
                wait = self._first_wait * 2 ** (attempt - 1) * random.uniform(0.75, 1.25)
                self._sleep(min(max(wait, asked), _LONGEST_WAIT))
            try:
                status, headers, content = self._post(body)
            except (OSError, http.client.HTTPException) as error:
                reason, asked = f"{type(error).__name__}: {error}", 0.0
                continue
            if status == 200:
                return _read_answer(content)
            reason = f"HTTP {status}: {_shorten(content)}"
            if status not in _BUSY:
                raise UserError(
                    f"{self._parts.netloc}: the server refuses with {reason}. Check --url, --model ('{self.name}') and "
                    f"the variable {KEY_VARIABLE}."
                )
            asked = _read_wait(headers.get("Retry-After"))
        return Failure(f"{reason} (tried {self._retries + 1} times)")

    def _post(self, body: str) -> tuple[int, http.client.HTTPMessage, bytes]:
        kind = http.client.HTTPSConnection if self._parts.scheme == "https" else http.client.HTTPConnection
        connection = kind(str(self._parts.hostname), self._parts.port, timeout=self._timeout)
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if key := os.environ.get(KEY_VARIABLE):
            headers["Authorization"] = f"Bearer {key}"
        try:
            connection.request("POST", f"{self._parts.path.rstrip('/')}/chat/completions", body.encode(), headers)
            response = connection.getresponse()
            return response.status, response.headers, response.read()
        finally:
            connection.close()


def check_address(address: str, *, allow_remote: bool):
    """The parts of a server's address.

    Raises:
        UserError: no http or https address, or one of another machine without `allow_remote`.
    """
    parts = urlsplit(address)
    try:
        parts.port  # noqa: B018 - raises where it is no number
    except ValueError as error:
        raise UserError(f"{address}: {error}.") from error
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.username:
        raise UserError(f"{address}: not the address of a server; expected one such as http://127.0.0.1:8000/v1.")
    if not allow_remote and not _is_loopback(parts.hostname):
        raise UserError(
            f"{address} is another machine. Records of patients stay on this one unless you say --allow-remote; "
            "a local server is at 127.0.0.1."
        )
    return parts


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _read_answer(content: bytes) -> Completion | Failure:
    try:
        answer: dict[str, Any] = json.loads(content)
        choice = answer["choices"][0]
        text = choice["message"]["content"]
        usage = answer.get("usage") or {}
        if not isinstance(text, str) or not text.strip():
            return Failure("an empty answer")
        return Completion(
            text,
            str(choice.get("finish_reason") or "stop"),
            int(usage.get("prompt_tokens") or 0),
            int(usage.get("completion_tokens") or 0),
            str(answer.get("model") or ""),
        )
    except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
        return Failure(f"not an answer of chat/completions ({type(error).__name__}: {error}): {_shorten(content)}")


def _read_wait(header: str | None) -> float:
    try:
        return max(0.0, float(header or 0))
    except ValueError:  # a date
        return 0.0


def _shorten(content: bytes) -> str:
    return " ".join(content.decode("utf-8", "replace").split())[:200]
