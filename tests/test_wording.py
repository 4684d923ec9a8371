"""Numbers in messages."""

from __future__ import annotations

from hilum.wording import say_count


def test_one_is_singular() -> None:
    said = [say_count(number, "row") for number in (0, 1, 2, 1200)]
    assert said == ["0 rows", "1 row", "2 rows", "1,200 rows"]
    assert [say_count(number, "study", "studies") for number in (1, 3)] == ["1 study", "3 studies"]
