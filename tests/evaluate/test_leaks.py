"""The gate before an evaluation: a copy of a test image, in pretraining or in training of the same cache, closes it."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest

from hilum.cache import Cache
from hilum.errors import UserError
from hilum.evaluate.leaks import check_pretraining, check_splits_apart, measure_overlap
from hilum.study import read_studies, write_studies
from hilum.training.run_folder import describe_training_data, read_seen
from sources.archives.pictures import compress, draw, save
from toy_archive import write_archive
from toy_cache import build

SPLITS = ["train", "train", "val", "test", "test"]


def make(folder: Path, dataset: str, pictures: list, splits: list[str] = SPLITS) -> Cache:
    """A cache of an image for each study, whose patients are all different."""
    table = write_archive(folder / dataset, [1] * len(pictures), dataset=dataset, split=splits)
    for number, picture in enumerate(pictures):
        save(picture, folder / dataset / f"{dataset}-{number:03d}-0.png")
    name = pl.format("{}-{}", "dataset", "study")
    write_studies(read_studies(table).with_columns(patient=name, group=name), table)
    return build(table, folder / f"{dataset}-cache")


def record(cache: Cache, folder: Path, **change) -> Path:
    """A run folder with the record of pretraining on a cache."""
    folder.mkdir()
    about = describe_training_data(cache) | change
    (folder / "pretraining.json").write_text(json.dumps(about))
    return folder


def test_a_copy_of_a_pretraining_image_closes_the_gate(tmp_path: Path) -> None:
    learned = make(tmp_path, "one", [draw(seed) for seed in range(5)])
    run = record(learned, tmp_path / "run")
    apart = make(tmp_path, "two", [draw(seed) for seed in range(10, 15)])
    assert check_pretraining(apart, run) == ()
    leaking = make(tmp_path, "three", [*(draw(seed) for seed in range(20, 24)), compress(draw(1))])
    assert measure_overlap(leaking, run, near=True).num_near == 1
    assert measure_overlap(leaking, run).num_images == 0
    with pytest.raises(UserError, match=r"0 of 2 images and copies of 1 more.*leave 1 study \(three/s004\) out"):
        check_pretraining(leaking, run)
    assert check_pretraining(leaking, run, split="val") == ()
    assert check_pretraining(leaking, run, leave_out=("three",)) == ()


def test_the_same_pixels_are_counted_as_such_and_not_as_copies(tmp_path: Path) -> None:
    run = record(make(tmp_path, "one", [draw(seed) for seed in range(5)]), tmp_path / "run")
    same = make(tmp_path, "two", [*(draw(seed) for seed in range(20, 24)), draw(0)])
    overlap = measure_overlap(same, run, near=True)
    assert (overlap.num_images, overlap.num_near) == (1, 0)


def test_a_test_image_of_pretraining_is_no_leak(tmp_path: Path) -> None:
    run = record(make(tmp_path, "one", [draw(seed) for seed in range(5)]), tmp_path / "run")
    cache = make(tmp_path, "two", [*(draw(seed) for seed in range(20, 24)), compress(draw(4))])
    assert check_pretraining(cache, run) == ()


def test_a_record_from_before_hashes_were_kept_says_so(tmp_path: Path) -> None:
    cache = make(tmp_path, "one", [draw(seed) for seed in range(5)])
    run = record(cache, tmp_path / "old", perceptual=None)
    assert read_seen(run).perceptual is None
    other = make(tmp_path, "two", [*(draw(seed) for seed in range(20, 24)), compress(draw(1))])
    assert any(
        "copies of test images in other pixels were not looked for" in note for note in check_pretraining(other, run)
    )
    # Whoever starts from such an encoder cannot know either.
    assert describe_training_data(other, before=run)["perceptual"] is None


def test_a_warm_start_has_seen_what_both_saw(tmp_path: Path) -> None:
    first = record(make(tmp_path, "one", [draw(seed) for seed in range(5)]), tmp_path / "first")
    about = describe_training_data(make(tmp_path, "two", [draw(seed) for seed in range(10, 15)]), before=first)
    (tmp_path / "second").mkdir()
    (tmp_path / "second" / "pretraining.json").write_text(json.dumps(about))
    perceptual = read_seen(tmp_path / "second").perceptual
    assert perceptual is not None
    assert len(perceptual) == 4
    leaking = make(tmp_path, "three", [*(draw(seed) for seed in range(20, 24)), compress(draw(1))])
    with pytest.raises(UserError, match="copies of 1 more"):
        check_pretraining(leaking, tmp_path / "second")


def test_a_copy_in_another_split_of_the_cache_closes_the_gate(tmp_path: Path) -> None:
    cache = make(tmp_path, "one", [draw(0), draw(1), draw(2), draw(3), compress(draw(2))])
    with pytest.raises(UserError, match=r"1 images of the test split .*: one/s004 is one of one/s002 \(val\)"):
        check_splits_apart(cache)
    check_splits_apart(cache, leave_out=("one",))
    check_splits_apart(cache, split="val")
    check_splits_apart(make(tmp_path, "two", [draw(seed) for seed in range(5)]))
