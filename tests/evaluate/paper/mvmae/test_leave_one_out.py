"""Which archives a suite asks to pretrain on, and what it says where none is missing."""

from __future__ import annotations

from hilum.evaluate.paper.mvmae.leave_one_out import list_missing, say_missing


def test_an_archive_without_test_studies_stays_in_pretraining() -> None:
    everything = {"chexpert": True, "nih": True, "padchest": True}
    missing = list_missing(["chexpert", "padchest"], ["chexpert", "nih", "padchest"], [everything])
    assert missing == {
        "without-chexpert": ("nih", "padchest"),
        "without-padchest": ("chexpert", "nih"),
        "only-chexpert": ("chexpert",),
        "only-padchest": ("padchest",),
    }


def test_a_run_that_saw_exactly_these_archives_is_the_one() -> None:
    saw = [{"chexpert": False, "nih": True, "padchest": True}, {"chexpert": True, "nih": None, "padchest": False}]
    missing = list_missing(["chexpert", "padchest"], ["chexpert", "nih", "padchest"], saw)
    assert list(missing) == ["without-padchest", "only-padchest"]


def test_of_one_archive_none_is_left_out_and_none_is_said_to_have_been() -> None:
    assert list_missing(["ours"], ["ours"], [{"ours": True}]) == {}
    assert say_missing([], ["ours"]) == [
        "The cache holds one archive, ours, which a run was pretrained on: none can be left out."
    ]
    assert say_missing([], ["nih", "ours"]) == ["Every archive was left out once, and pretrained on alone."]
    assert say_missing(["hilum pretrain mvmae"], ["nih", "ours"])[1:] == ["hilum pretrain mvmae"]
