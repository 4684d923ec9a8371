"""Language models: a server that speaks the protocol on a real socket, a tiny model in the process, answers on disk."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from chat_server import serve_chat
from hilum.errors import UserError
from hilum.text.tokenizer import train_tokenizer
from hilum.text.writers.complete import complete_all
from hilum.text.writers.completion_store import CompletionStore, Replay
from hilum.text.writers.language_model import ChatPrompt, Completion, Failure, Request, SamplingParams, hash_request
from hilum.text.writers.local_server import KEY_VARIABLE, LocalServer, check_address

SILENT = Console(file=io.StringIO())


def build_request(words: str, seed: int = 0, **params: Any) -> Request:
    return Request(ChatPrompt("be brief", words), SamplingParams(seed, **params), "1", "hash")


def test_a_server_is_asked_as_its_documentation_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY_VARIABLE, "secret")
    with serve_chat(lambda request, number: "said") as server:
        (answer,) = LocalServer(server.address, "llama").complete([build_request("go", seed=5, temperature=0.1)])
    assert answer == Completion("said", "stop", 3, 1, "llama")
    (asked,) = server.asked
    assert asked["messages"] == [{"role": "system", "content": "be brief"}, {"role": "user", "content": "go"}]
    assert (asked["model"], asked["seed"], asked["temperature"], asked["max_tokens"]) == ("llama", 5, 0.1, 256)
    assert server.headers[0]["Authorization"] == "Bearer secret"


def test_a_busy_server_is_asked_again_after_longer_and_longer_waits_or_what_it_says() -> None:
    waits: list[float] = []
    busy = [(503, {}, "loading"), (429, {"Retry-After": "7"}, "slow down"), (500, {}, "oops")]
    with serve_chat(lambda request, number: busy[number] if number < 3 else "at last") as server:
        model = LocalServer(server.address, "llama", first_wait=1.0, sleep=waits.append)
        (answer,) = model.complete([build_request("go")])
    assert isinstance(answer, Completion)
    assert answer.text == "at last"
    assert 0.75 <= waits[0] <= 1.25
    assert waits[1] == 7.0
    assert 3.0 <= waits[2] <= 5.0


def test_one_that_stays_busy_or_says_nonsense_is_a_failure_with_its_reason() -> None:
    with serve_chat(lambda request, number: (503, {}, "loading")) as server:
        model = LocalServer(server.address, "llama", retries=2, sleep=lambda seconds: None)
        assert model.complete([build_request("go")]) == [Failure("HTTP 503: loading (tried 3 times)")]
        assert len(server.asked) == 3
    for body in ("no json", "{}", '{"choices": [{"message": {"content": null}}]}'):
        with serve_chat(lambda request, number, body=body: (200, {}, body)) as server:
            (answer,) = LocalServer(server.address, "llama").complete([build_request("go")])
            assert isinstance(answer, Failure)
    closed = LocalServer(server.address, "llama", retries=1, sleep=lambda seconds: None)
    (answer,) = closed.complete([build_request("go")])
    assert isinstance(answer, Failure)
    assert "Connection" in answer.reason


def test_a_server_that_refuses_ends_it() -> None:
    with (
        serve_chat(lambda request, number: (404, {}, '{"error": "no model mistral"}')) as server,
        pytest.raises(UserError, match=r"HTTP 404: .*no model mistral.*--model \('mistral'\)"),
    ):
        LocalServer(server.address, "mistral").complete([build_request("go")])


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("http://example.org/v1", "another machine"),
        ("http://10.0.0.7:8000/v1", "another machine"),
        ("http://localhost.example.org/v1", "another machine"),
        ("http://127.0.0.1@example.org/v1", "not the address"),
        ("127.0.0.1:8000", "not the address"),
        ("file:///etc/passwd", "not the address"),
        ("http://127.0.0.1:port/v1", "Port"),
    ],
)
def test_only_this_machine_is_asked(address: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        check_address(address, allow_remote=False)


def test_another_machine_is_asked_if_it_is_allowed() -> None:
    assert check_address("https://example.org/v1", allow_remote=True).hostname == "example.org"
    for address in ("http://localhost:1/v1", "http://[::1]:1/v1", "http://127.8.0.1/v1"):
        check_address(address, allow_remote=False)


def test_equal_requests_are_asked_once_and_known_ones_never(tmp_path: Path) -> None:
    requests = [build_request(words) for words in ("a", "b", "a", "c")]
    with serve_chat(lambda request, number: request["messages"][1]["content"].upper()) as server:
        model = LocalServer(server.address, "llama", concurrency=2)
        with CompletionStore(tmp_path / "answers.jsonl") as store:
            answers = complete_all(model, requests, store, console=SILENT)
            assert [one.text for one in answers if isinstance(one, Completion)] == ["A", "B", "A", "C"]
        assert len(server.asked) == 3
        assert server.most_at_once <= 2
        with CompletionStore(tmp_path / "answers.jsonl") as store:
            assert complete_all(model, requests, store, console=SILENT) == answers
            assert complete_all(Replay(store, "llama"), requests, store, console=SILENT) == answers
            other = complete_all(Replay(store, "another"), requests[:1], store, console=SILENT)
            assert other == [Failure("not in answers.jsonl")]
        assert len(server.asked) == 3


def test_failures_are_kept_and_asked_again(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    with serve_chat(lambda request, number: "fine" if number else (503, {}, "")) as server:
        model = LocalServer(server.address, "llama", retries=0)
        for kind in (Failure, Completion):
            with CompletionStore(path) as store:
                complete_all(model, [build_request("go")], store, console=SILENT)
                assert isinstance(store.find(hash_request(build_request("go"), "llama")), kind)
    first, second = map(json.loads, path.read_text().splitlines())
    assert first["failure"]["reason"].startswith("HTTP 503")
    assert second["completion"]["text"] == "fine"
    assert first["key"] == second["key"] == hash_request(build_request("go"), "llama")


def test_a_refusal_in_the_middle_loses_no_answer(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    with serve_chat(lambda request, number: "fine" if number < 3 else (401, {}, "who are you")) as server:
        model = LocalServer(server.address, "llama", concurrency=1)
        with CompletionStore(path) as store, pytest.raises(UserError, match="401"):
            complete_all(model, [build_request(str(number)) for number in range(9)], store, console=SILENT)
    with CompletionStore(path) as store:
        assert len(store) == 3


def test_a_server_that_has_died_ends_it(tmp_path: Path) -> None:
    requests = [build_request(str(number)) for number in range(9)]
    with (
        serve_chat(lambda request, number: (503, {}, "down")) as server,
        CompletionStore(tmp_path / "answers.jsonl") as store,
    ):
        model = LocalServer(server.address, "llama", retries=0, concurrency=1)
        with pytest.raises(UserError, match=r"failed 4 times in a row, at last with: HTTP 503: down"):
            complete_all(model, requests, store, most_failures=3, console=SILENT)
    assert len(server.asked) <= 5


def test_half_a_line_of_a_killed_run_is_removed_and_a_broken_one_is_named(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    with CompletionStore(path) as store:
        store.add("one", Failure("x"))
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"key": "two", "compl')
    with CompletionStore(path) as store:
        store.add("three", Failure("y"))
    with CompletionStore(path) as store:
        assert (len(store), store.find("three")) == (2, Failure("y"))
    path.write_bytes(b"{}\n" + whole)
    with pytest.raises(UserError, match="line 1"):
        CompletionStore(path)


def test_keys_tell_apart_what_makes_another_answer() -> None:
    request = build_request("go")
    others = [
        build_request("stop"), build_request("go", seed=1), build_request("go", temperature=0.0),
        Request(request.prompt, request.params, "2", "hash"), Request(request.prompt, request.params, "1", "other"),
    ]  # fmt: skip
    keys = [hash_request(one, "llama") for one in (request, *others)] + [hash_request(request, "mistral")]
    assert len(set(keys)) == len(keys)


def test_progress_tells_time_left_tokens_cost_and_failures(tmp_path: Path) -> None:
    shown = io.StringIO()
    with (
        serve_chat(lambda request, number: "four words are here" if number else (503, {}, "")) as server,
        CompletionStore(tmp_path / "answers.jsonl") as store,
    ):
        model = LocalServer(server.address, "llama", retries=0, concurrency=1)
        requests = [build_request(words) for words in "ab"]
        complete_all(model, requests, store, price=1e6, console=Console(file=shown, width=200))
    assert (
        shown.getvalue().strip() == "texts 2/2  0:00:00 left  7 tokens (4 written)  cost 7.00 of about 7.00  1 failed"
    )


@pytest.fixture(scope="module")
def tiny():
    """A random Llama of a few thousand weights, its tokenizer with a chat template."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    from hilum.text.writers.transformers_model import TransformersModel

    raw = train_tokenizer(["be brief about the left breast and its oval mass"] * 4, 300)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=raw, pad_token="[PAD]", unk_token="[UNK]", bos_token="[CLS]", eos_token="[SEP]"
    )
    tokenizer.chat_template = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }} {% endfor %}assistant:"
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=raw.get_vocab_size(), hidden_size=32, intermediate_size=64, num_hidden_layers=1,
        num_attention_heads=2, num_key_value_heads=2, max_position_embeddings=256, pad_token_id=0, bos_token_id=2,
        eos_token_id=3,
    )  # fmt: skip
    return TransformersModel(LlamaForCausalLM(config), tokenizer, "tiny", batch_size=2)


def test_a_model_in_the_process_answers_by_seed_and_leaves_the_generator_alone(tiny) -> None:
    import torch

    before = torch.random.get_rng_state()
    requests = [build_request("go", seed=1, max_tokens=8), build_request("a longer prompt", seed=1, max_tokens=8)]
    first, again = tiny.complete(requests), tiny.complete(requests)
    assert first == again
    assert torch.equal(torch.random.get_rng_state(), before)
    assert first != tiny.complete([build_request("go", seed=2, max_tokens=8), requests[1]])
    assert all(isinstance(one, Completion) and one.completion_tokens <= 8 for one in first)


def test_padding_on_the_left_changes_no_greedy_answer(tiny) -> None:
    requests = [build_request(words, temperature=0.0, max_tokens=6) for words in ("go", "a much longer prompt than go")]
    together = tiny.complete(requests)
    assert together == [tiny.complete([request])[0] for request in requests]
    assert all(isinstance(one, Completion) for one in together)
    assert together[0].prompt_tokens < together[1].prompt_tokens


def test_a_model_in_the_process_stops_at_its_end_token(tiny) -> None:
    assert tiny._read([5, 6, 3, 7], 4).finish_reason == "stop"
    assert tiny._read([5, 6, 3, 7], 4).completion_tokens == 2
    assert tiny._read([5, 6], 4).finish_reason == "length"
    assert isinstance(tiny._read([3], 4), Failure)


def test_a_model_comes_back_from_its_folder(tiny, tmp_path: Path) -> None:
    from hilum.text.writers.transformers_model import load_transformers_model

    tiny._model.save_pretrained(tmp_path / "tiny")
    tiny._tokenizer.save_pretrained(tmp_path / "tiny")
    loaded = load_transformers_model(str(tmp_path / "tiny"))
    request = build_request("go", temperature=0.0, max_tokens=6)
    assert loaded.complete([request]) == tiny.complete([request])


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    from hilum.text.writers.transformers_model import load_transformers_model

    with pytest.raises(UserError, match="no language model"):
        load_transformers_model(str(tmp_path))
