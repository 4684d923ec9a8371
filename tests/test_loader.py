from __future__ import annotations

import time
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import torch

from hilum.batch import Descriptions, StudyBatch, Texts
from hilum.cache import Cache
from hilum.cache.writer import build_cache
from hilum.config import CropConfig
from hilum.errors import UserError
from hilum.keyed_random import make_keys
from hilum.loader import StudyLoader, iterate_studies, place_crops
from hilum.study import read_studies, write_studies
from toy_archive import make_cache

VIEWS = [1, 2, 3, 1, 5, 1, 2, 1, 1, 4] * 3


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Cache:
    return make_cache(tmp_path_factory.mktemp("loader"), VIEWS)


def take(loader: StudyLoader, num: int, epoch: int = 0, step: int = 0) -> list:
    steps = loader.iterate(epoch, step)
    taken = [next(steps) for _ in range(num)]
    steps.close()  # ty: ignore
    return taken


def assert_equal(one: StudyBatch, other: StudyBatch) -> None:
    for entry in fields(StudyBatch):
        left, right = getattr(one, entry.name), getattr(other, entry.name)
        if isinstance(left, Texts | Descriptions):
            assert all(map(torch.equal, left, right)), entry.name
        else:
            assert left == right if isinstance(left, dict) else torch.equal(left, right), entry.name


def show_crops(batch: StudyBatch) -> dict[tuple[int, int, int], bytes]:
    """(study, draw, view) -> what its crop rectangle touches."""
    shown = {}
    for view in range(batch.num_views):
        study = int(batch.study[view])
        top, left, height, width = batch.crop[view].tolist()
        touched = batch.pixels[view, 0, : int(np.ceil(top + height - 1e-4)), : int(np.ceil(left + width - 1e-4))]
        place = f"{top:.6f} {left:.6f} {height:.6f} {width:.6f}".encode()
        shown[int(batch.row[study]), int(batch.draw[study]), int(batch.view_row[view])] = (
            place + touched.numpy().tobytes()
        )
    return shown


def show_step(micro_batches: list[StudyBatch]) -> dict:
    return {key: value for batch in micro_batches for key, value in show_crops(batch).items()}


def test_rows_of_a_batch_are_the_caches(cache: Cache) -> None:
    for step in take(StudyLoader(cache, cache.rows(), views_per_step=16, seed=0), 5):
        (batch,) = step.micro_batches
        row, view = batch.row.numpy(), batch.view_row.numpy()
        np.testing.assert_array_equal(batch.patient.numpy(), cache.studies["patient"][row])
        np.testing.assert_array_equal(batch.key.numpy().view(np.uint64), cache.studies["key"][row])
        np.testing.assert_array_equal(cache.views["study"][view], row[batch.study.numpy()])
        np.testing.assert_array_equal(batch.view_kind.numpy(), cache.views["view_kind"][view])
        np.testing.assert_array_equal(batch.views_per_study().numpy(), cache.studies["num_views"][row])
        expected = np.concatenate([np.arange(count) for count in batch.views_per_study().tolist()])
        np.testing.assert_array_equal(batch.view_index().numpy(), expected)


def test_a_crop_is_a_piece_of_its_image(cache: Cache) -> None:
    for mode in ("random", "center", "squash"):
        loader = StudyLoader(cache, cache.rows(), views_per_step=20, seed=3, crop=CropConfig(mode=mode))
        (batch,) = take(loader, 1)[0].micro_batches
        assert batch.pixels.dtype == torch.uint8
        for view in range(batch.num_views):
            image = cache.image(int(batch.view_row[view]))
            top, left, height, width = batch.crop[view].tolist()
            rows, columns = int(np.ceil(top + height - 1e-4)), int(np.ceil(left + width - 1e-4))
            piece = batch.pixels[view, 0, :rows, :columns].numpy()
            windows = np.lib.stride_tricks.sliding_window_view(image, piece.shape)
            assert (windows == piece).all(axis=(2, 3)).any()
            if mode == "squash":
                assert piece.shape == image.shape
            else:
                assert height == width
                assert 0.5**0.5 * min(image.shape) - 1e-3 <= height <= min(image.shape)


def test_crops_of_other_aspects_have_them_and_stay_inside() -> None:
    """P 2.6: ratio 0.85 to 1.15, the logarithm uniform; squares are where they were."""
    height, width = np.full(4000, 90), np.full(4000, 100)
    keys = make_keys("crop", 0, np.arange(4000))
    top, left, tall, wide = place_crops(
        CropConfig(min_scale=0.75, max_scale=0.8, min_aspect=0.85, max_aspect=1.15), height, width, keys
    ).T
    aspect = wide / tall
    assert (aspect.min(), aspect.max()) == pytest.approx((0.85, 1.15), rel=0.01)
    assert np.log(aspect).mean() == pytest.approx((np.log(0.85) + np.log(1.15)) / 2, abs=0.005)
    assert ((tall * wide) / 90**2).min() == pytest.approx(0.75, rel=0.01)
    whole = place_crops(CropConfig(min_scale=1.0, min_aspect=0.5, max_aspect=2.0), height, width, keys)
    for first, length, side in ((top, tall, 90), (left, wide, 100), (*whole.T[[0, 2]], 90), (*whole.T[[1, 3]], 100)):
        assert first.min() >= 0
        assert (first + length).max() <= side + 1e-9
    squares = place_crops(CropConfig(), height, width, keys)
    assert np.array_equal(squares[:, 2], squares[:, 3])


def test_a_step_is_the_same_from_wherever_the_run_starts(cache: Cache) -> None:
    def make() -> StudyLoader:
        return StudyLoader(cache, cache.rows(), views_per_step=10, seed=1, max_views=2, multi_view_floor=0.8)

    walked = take(make(), 12)
    assert walked[-1].epoch >= 1
    for start in (1, 5, 11):
        for left, right in zip(
            walked[start:], take(make(), 12 - start, walked[start].epoch, walked[start].step), strict=True
        ):
            assert left[:2] == right[:2]
            assert_equal(left.micro_batches[0], right.micro_batches[0])


@pytest.mark.parametrize(("world_size", "accumulate"), [(2, 1), (1, 3), (2, 2)])
def test_the_global_batch_does_not_depend_on_how_it_is_dealt(cache: Cache, world_size: int, accumulate: int) -> None:
    def make(**how) -> StudyLoader:
        return StudyLoader(cache, cache.rows(), views_per_step=20, seed=1, max_views=3, multi_view_floor=0.5, **how)

    whole = take(make(), 4)
    ranks = [take(make(rank=rank, world_size=world_size, accumulate=accumulate), 4) for rank in range(world_size)]
    for number, step in enumerate(whole):
        parts = [batch for rank in ranks for batch in rank[number].micro_batches]
        assert len(parts) == world_size * accumulate
        assert show_step(parts) == show_step(step.micro_batches)
        views = [batch.num_views for batch in parts]
        assert max(views) - min(views) <= 3


def test_crops_do_not_depend_on_batch_size_or_neighbours(cache: Cache) -> None:
    large = take(StudyLoader(cache, cache.rows(), views_per_step=60, seed=1), 4)
    small = take(StudyLoader(cache, cache.rows()[::2], views_per_step=7, seed=1), 30)
    one = {key: value for step in large for key, value in show_step(step.micro_batches).items()}
    other = {key: value for step in small for key, value in show_step(step.micro_batches).items()}
    common = one.keys() & other.keys()
    assert len(common) >= 20
    assert all(one[key] == other[key] for key in common)
    # Another draw of the same study, another seed: another crop.
    draws = {}
    for (row, _, view), value in one.items():
        draws.setdefault((row, view), set()).add(value)
    assert all(len(values) > 1 for values in draws.values())
    reseeded = show_step(take(StudyLoader(cache, cache.rows(), views_per_step=60, seed=2), 1)[0].micro_batches)
    assert all(reseeded[key] != one[key] for key in reseeded.keys() & one.keys())


def test_a_studys_crops_and_views_are_its_own_whoever_else_is_in_the_archive(cache: Cache, tmp_path: Path) -> None:
    part = tmp_path / "part.parquet"
    write_studies(read_studies(cache.path.parent / "archive" / "studies.parquet").tail(11), part)
    build_cache(part, tmp_path / "cache", workers=0, short_side=64, progress=False)

    def show(cache: Cache) -> dict[tuple[int, int], list[bytes]]:
        shown: dict[tuple[int, int], list[bytes]] = {}
        for step in take(StudyLoader(cache, cache.rows(), views_per_step=12, seed=1, max_views=3), 12):
            for batch in step.micro_batches:
                for (row, draw, _), crop in show_crops(batch).items():
                    shown.setdefault((int(cache.studies["key"][row]), draw), []).append(crop)
        return shown

    whole, alone = show(cache), show(Cache.open(tmp_path / "cache"))
    common = whole.keys() & alone.keys()
    assert len(common) >= 11
    assert all(whole[key] == alone[key] for key in common)


def test_a_second_look_is_another_crop_of_the_same_images_and_changes_no_first(cache: Cache) -> None:
    how = {"seed": 3, "max_views": 2}
    once, twice = (StudyLoader(cache, cache.rows(), views_per_step=20 * looks, looks=looks, **how) for looks in (1, 2))
    assert once.steps_per_epoch == twice.steps_per_epoch
    seen, first = {}, {}
    for loader, found in ((once, seen), (twice, first)):
        for step in take(loader, loader.steps_per_epoch):
            for batch in step.micro_batches:
                for study in range(batch.num_studies):
                    of_study = batch.study == study
                    found[int(batch.row[study])] = (batch.view_row[of_study].tolist(), batch.crop[of_study])
    assert set(seen) == set(first) == set(range(len(VIEWS)))
    for study, (rows, crops) in seen.items():
        both_rows, both_crops = first[study]
        assert both_rows == rows + rows
        assert torch.equal(both_crops[: len(rows), 2:], crops[:, 2:])
        assert not torch.equal(both_crops[len(rows) :, 2:], crops[:, 2:])


def test_evaluation_shows_every_study_once_in_order_and_the_same_way(cache: Cache) -> None:
    rows = cache.rows()[::-1][:17]
    first = list(iterate_studies(cache, rows, views_per_batch=8, max_views=3))
    again = list(iterate_studies(cache, rows, views_per_batch=8, max_views=3))
    for left, right in zip(first, again, strict=True):
        assert_equal(left, right)
    np.testing.assert_array_equal(torch.cat([batch.row for batch in first]).numpy(), rows)
    assert all(batch.num_views <= 8 for batch in first)
    shown = torch.cat([batch.views_per_study() for batch in first])
    np.testing.assert_array_equal(shown.numpy(), np.minimum(cache.studies["num_views"][rows], 3))
    other_size = list(iterate_studies(cache, rows, views_per_batch=100, max_views=3))
    assert len(other_size) == 1
    assert show_step(other_size) == show_step(first)
    assert list(iterate_studies(cache, rows[:0], views_per_batch=8)) == []


def test_a_study_larger_than_a_batch_has_one_to_itself(cache: Cache) -> None:
    batches = list(iterate_studies(cache, np.array([0, 4, 0]), views_per_batch=2))
    assert [batch.num_views for batch in batches] == [1, 5, 1]


def test_evaluation_is_not_random(cache: Cache) -> None:
    with pytest.raises(UserError, match="center or squash"):
        next(iterate_studies(cache, cache.rows(), views_per_batch=8, crop=CropConfig()))


def test_more_parts_than_studies_is_an_error(cache: Cache) -> None:
    with pytest.raises(UserError, match="cannot be dealt to 4 processes x 4 parts"):
        StudyLoader(cache, cache.rows(), views_per_step=20, seed=0, world_size=4, accumulate=4)


def test_random_crops_cover_the_area_the_settings_say() -> None:
    height, width = np.full(20_000, 256), np.full(20_000, 320)
    crops = place_crops(CropConfig(), height, width, make_keys("crop", 0, np.arange(20_000)))
    top, left, tall, wide = crops.T
    np.testing.assert_array_equal(tall, wide)
    share = tall**2 / 256**2
    assert 0.5 <= share.min() < 0.501
    assert 0.999 < share.max() <= 1
    assert abs(share.mean() - 0.75) < 0.005
    assert top.min() >= 0
    assert (top + tall).max() <= 256
    assert left.min() >= 0
    assert 318 < (left + wide).max() <= 320
    assert abs((left + wide / 2).mean() - 160) < 1


def test_sixteen_bit_caches_load_as_such(tmp_path) -> None:
    cache = make_cache(tmp_path, [1, 2, 1], bits=16)
    batch = next(iterate_studies(cache, cache.rows(), views_per_batch=4, crop=CropConfig(mode="squash")))
    assert batch.pixels.dtype == torch.uint16
    image = cache.image(0)
    np.testing.assert_array_equal(batch.pixels[0, 0, : image.shape[0], : image.shape[1]].numpy(), image)


def test_waiting_is_measured_and_errors_reach_the_consumer(cache: Cache, tmp_path) -> None:
    loader = StudyLoader(cache, cache.rows(), views_per_step=20, seed=0)
    steps = loader.iterate()
    next(steps)
    time.sleep(0.05)
    waited, begin = loader.seconds_waited, time.perf_counter()
    next(steps)
    assert waited > 0
    assert loader.seconds_waited - waited <= time.perf_counter() - begin
    broken = make_cache(tmp_path, [1, 1])
    (broken.path / "shard-00000.bin").unlink()
    with pytest.raises(FileNotFoundError):
        next(StudyLoader(broken, broken.rows(), views_per_step=2, seed=0).iterate())
