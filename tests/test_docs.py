"""README and the pages of docs/: what they name is there."""

from __future__ import annotations

import ast
import re
import shlex
from importlib import import_module
from pathlib import Path

import pytest

from hilum.cli import COMMANDS, main

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
each_page = pytest.mark.parametrize("page", PAGES, ids=[page.name for page in PAGES])


def list_blocks(text: str, language: str) -> list[str]:
    found = re.findall(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [block for name, block in found if name == language]


def test_every_page_is_in_the_navigation_and_reached_from_the_first_and_from_the_readme() -> None:
    pages = [page.name for page in PAGES[1:]]
    listed = re.findall(r"^  - (.+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE)
    assert sorted(listed) == pages
    first, readme = ((ROOT / name).read_text() for name in ("docs/index.md", "README.md"))
    for page in pages:
        assert page == "index.md" or (f"({page})" in first and f"(docs/{page})" in readme), page


@each_page
def test_what_a_page_links_to_is_there(page: Path) -> None:
    links = re.findall(r"\]\(([^)#]+)\)", page.read_text())
    assert [link for link in links if not link.startswith("http") and not (page.parent / link).exists()] == []


@each_page
def test_the_commands_of_a_page_are_commands(page: Path) -> None:
    text = page.read_text()
    named = re.findall(r"(?:^|`)hilum ([a-z]+)\b", text, re.MULTILINE)
    assert set(named) - set(COMMANDS) == set()
    for line in "".join(list_blocks(text, "")).replace("\\\n", " ").splitlines():
        assert line.split()[0] in ("hilum", "make"), line


@each_page
def test_every_command_of_a_page_reads_as_it_is_written(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Run where nothing is: options are read first, and what is missing then is a file and not an option."""
    monkeypatch.chdir(tmp_path)
    for line in "".join(list_blocks(page.read_text(), "")).replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        if words[0] != "hilum":
            continue
        if words[1] == "phantom":  # which needs nothing, and would be made
            words += ["--patients" if "--breast" in words else "--studies", "0"]
        assert main(words[1:]) == 2, line
        said = capsys.readouterr().err
        asked = (
            r"no such file|no cache|there is no folder|nothing to draw|not a folder|must be greater than or equal to 1"
        )
        assert re.search(asked, said, re.I), said


@each_page
def test_the_python_of_a_page_imports_what_there_is(page: Path) -> None:
    for block in list_blocks(page.read_text(), "python"):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom):
                assert node.module is not None
                lacking = [name.name for name in node.names if not hasattr(import_module(node.module), name.name)]
                assert lacking == [], node.module
