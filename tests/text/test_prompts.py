"""Prompts: what Hilum's say, and files of a user's own."""

from __future__ import annotations

import tomllib
from importlib import resources
from pathlib import Path

import pytest

from hilum.errors import UserError
from hilum.text.breast.reading import read_claims
from hilum.text.breast.terms import CATEGORIES
from hilum.text.prompts import PROMPTS, hash_prompts, read_prompts

NAMES = tuple(tomllib.loads(resources.files("hilum.text").joinpath(PROMPTS).read_text("utf-8")))


@pytest.mark.parametrize("name", [name for name in NAMES if name in CATEGORIES])
def test_prompts_of_a_finding_state_it_and_deny_it_and_no_other(name: str) -> None:
    """As the rules read them that check every text the run learned from."""
    prompts = read_prompts([name])[name]
    for said, denied in ((prompts.present, False), (prompts.absent, True)):
        for text in said:
            claims = read_claims(text)
            assert [(one.category, one.is_denied) for one in claims.mentions] == [(name, denied)], text
            assert not claims.sides, text


def test_prompts_of_an_assessment_and_a_density_state_it() -> None:
    for name, present, absent in (("BI-RADS 4 or more", {4, 5}, {1, 2, 3}), ("malignancy", {4, 5}, {1, 2})):
        prompts = read_prompts([name])[name]
        assert set.union(*(read_claims(one).assessments for one in prompts.present)) == present
        assert set.union(*(read_claims(one).assessments for one in prompts.absent)) == absent
    for letter in "abcd":
        prompts = read_prompts([f"density={letter}"])[f"density={letter}"]
        assert all(read_claims(one).densities == {letter} for one in prompts.present), prompts.present
        assert all(read_claims(one).densities.isdisjoint({letter}) for one in prompts.absent), prompts.absent


def test_a_file_of_ones_own_replaces_them(tmp_path: Path) -> None:
    path = tmp_path / "prompts.toml"
    path.write_text('[mass]\npresent = ["Knoten  links."]\nabsent = ["Kein Knoten.", "Ohne Knoten."]\n')
    (prompts,) = read_prompts(["mass"], path).values()
    assert prompts.all == ("Knoten links.", "Kein Knoten.", "Ohne Knoten.")
    assert hash_prompts({"mass": prompts}) != hash_prompts(read_prompts(["mass"]))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[mass", "not readable as TOML"),
        ("[heart]\npresent = ['a']\nabsent = ['b']", r"no prompts for mass; it has some for heart.*\[mass\]"),
        ("[mass]\npresent = ['a']", r"\[mass\]: expected absent = \[\.\.\.\], one sentence or more; found None"),
        ("[mass]\npresent = 'a'\nabsent = ['b']", "expected present"),
        ("[mass]\npresent = []\nabsent = ['b']", "expected present"),
        ("[mass]\npresent = ['a']\nabsent = ['b', 'a']", "'a' is said of presence and of absence"),
    ],
)
def test_a_file_that_is_none_is_refused_with_what_is_wrong(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "prompts.toml"
    path.write_text(content)
    with pytest.raises(UserError, match=message):
        read_prompts(["mass"], path)
