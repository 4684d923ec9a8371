"""A stand-in for an OpenAI-compatible server, on a real socket: it checks requests and answers as it is told to."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = str | tuple[int, dict[str, str], str]  # a text, or status, headers and body


@dataclass
class ChatServer:
    """Address and what was asked of it."""

    address: str
    asked: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    most_at_once: int = 0


@contextmanager
def serve_chat(answer: Callable[[dict[str, Any], int], Answer]) -> Generator[ChatServer]:
    """A server in a thread; `answer` gets the request and how many came before it."""
    lock, running = threading.Lock(), [0]

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with lock:
                number = len(server.asked)
                server.asked.append(request)
                server.headers.append(dict(self.headers))
                running[0] += 1
                server.most_at_once = max(server.most_at_once, running[0])
            status, headers, body = self._answer(request, number)
            with lock:
                running[0] -= 1
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body.encode())))
            self.end_headers()
            self.wfile.write(body.encode())

        def _answer(self, request: dict[str, Any], number: int) -> tuple[int, dict[str, str], str]:
            missing = {"model", "messages", "seed", "temperature", "top_p", "max_tokens"} - request.keys()
            if self.path != "/v1/chat/completions" or missing:
                return 404, {}, json.dumps({"error": {"message": f"no such thing: {self.path} {missing}"}})
            answered = answer(request, number)
            if not isinstance(answered, str):
                return answered
            message = {"role": "assistant", "content": answered}
            words = sum(len(one["content"].split()) for one in request["messages"])
            said = len(answered.split())
            body = {
                "id": f"chatcmpl-{number}", "object": "chat.completion", "created": 0, "model": request["model"],
                "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
                "usage": {"prompt_tokens": words, "completion_tokens": said, "total_tokens": words + said},
            }  # fmt: skip
            return 200, {"Content-Type": "application/json"}, json.dumps(body)

        def log_message(self, *_: object) -> None:
            pass

    listening = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server = ChatServer(f"http://127.0.0.1:{listening.server_address[1]}/v1")
    thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        listening.shutdown()
        listening.server_close()
        thread.join()
