"""Runs as a user names them: one encoder under two names is refused, two runs of one method are not."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from hilum.errors import UserError
from hilum.evaluate.asked import check_named_once, group_asked


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Runs one and two, with weights of one size; only where they are and their bytes count here."""
    monkeypatch.chdir(tmp_path)
    for place, name in enumerate(("one", "two")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "weights.safetensors").write_bytes(bytes([place]) * 10_000)
    return tmp_path


def test_runs_are_grouped_by_method(folder: Path) -> None:
    assert group_asked(["a=one,two"]) == {"a": ["one", "two"]}
    assert group_asked(["one", "b=two/weights.safetensors", "supervised:nano"]) == {
        "one": ["one"],
        "b": ["two/weights.safetensors"],
        "supervised nano": ["supervised:nano"],
    }


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["a=one", "b=one/weights.safetensors"],
            "--runs: one and one/weights.safetensors (of a and of b) are one enco",
        ),
        (["a=one,copy", "b=two"], "--runs: one and copy (of a) are one encoder: name it once."),
        (["a=one", "b=two,link"], "--runs: one and link (of a and of b) are one encoder"),
        (["a=one", "b=one"], "--runs: one is a run of a and of b; it can be of one."),
        (["a=supervised:nano", "b=supervised:nano"], "--runs: supervised:nano is a run of a and of b"),
    ],
)
def test_an_encoder_under_two_names_is_refused(folder: Path, words: list[str], message: str) -> None:
    shutil.copytree("one", "copy")
    Path("link").symlink_to("one")
    with pytest.raises(UserError) as error:
        group_asked(words)
    assert message in str(error.value)


def test_an_encoder_beside_itself_is_refused(folder: Path) -> None:
    check_named_once(["one", "two"])
    shutil.copytree("two", "copy")
    with pytest.raises(UserError, match=r"^copy is the same encoder as two: an encoder is compared with others"):
        check_named_once(["one", "two", "copy"])
    with pytest.raises(UserError, match=r"^one is named twice"):
        check_named_once(["one", "one"])
