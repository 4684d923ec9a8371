"""Which image stands for a breast's view: by rule, then by seed."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from breast_pictures import draw_breast
from hilum.batch import StudyBatch
from hilum.breast_views import NONE, BreastViews, find_findings, list_breasts
from hilum.breasts import BREAST, BREAST_FINDINGS, BREASTS, FINDING
from hilum.cache import Cache
from hilum.cache.writer import build_cache
from hilum.errors import UserError
from hilum.loader import StudyLoader, iterate_studies
from hilum.recipes import build_recipe
from hilum.study import build_studies, write_studies
from hilum.training.effects import check_effects
from hilum.vocabulary import LATERALITIES, VIEW_KINDS
from toy_archive import make_cache

# Images of each study: side, kind, and the share of the breast's height that is shown.
STUDIES = [
    [("left", "cc", 1.0), ("left", "mlo", 1.0), ("left", "mlo", 0.98), ("left", "mlo", 0.4)],  # the last is a part
    [("left", "cc", 1.0), ("left", "cc", 0.99), ("right", "cc", 1.0), ("right", "mlo", 1.0)],  # no left MLO
    [("right", "unknown", 1.0), ("unknown", "cc", 1.0), ("right", "cc", 1.0), ("right", "cc", 0.0)],  # 0: no breast
]


# What the table says of the breasts of each study, and the findings in it.
TOLD = [
    ([("left", {"mass": 1}, 0)], []),
    ([("left", {"mass": 0, "calcification": 0}, 0), ("right", {"mass": 0}, 0)], [("right", "calcification")]),
    ([("right", {"biopsy": 1}, 1)], [("right", "region")]),  # a cancer, of which nobody says what is seen
]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Cache:
    return build(tmp_path_factory.mktemp("breasts"))


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Cache:
    """The same with findings of the left breast of study 0 and of the right one of study 1."""
    return build(tmp_path_factory.mktemp("told"), TOLD)


def build(folder: Path, told: list | None = None) -> Cache:
    rows = []
    for study, images in enumerate(STUDIES):
        views = []
        for number, (side, kind, share) in enumerate(images):
            picture = draw_breast("right" if side == "right" else "left")
            height = len(picture)
            picture[: int(height * (1 - share))] = 60
            if share == 0:
                picture[100:140, 100:140] = 3000  # a marker
            picture[::11, :: 7 + number + 5 * study] += 2
            path = f"{study}-{number}.png"
            Image.fromarray((picture >> 4).astype(np.uint8)).save(folder / path)
            views.append({"path": path, "kind": kind, "position": "", "laterality": side})
        rows.append({"dataset": "d", "study": f"s{study}", "patient": f"p{study}", "root": str(folder), "views": views})
        if told is not None:
            breasts, findings = told[study]
            rows[-1] |= {
                BREASTS: [
                    dict.fromkeys(BREAST.to_schema())
                    | {"laterality": side, "cancer": cancer}
                    | {"labels": [{"name": name, "state": state} for name, state in labels.items()]}
                    for side, labels, cancer in breasts
                ],
                BREAST_FINDINGS: [
                    dict.fromkeys(FINDING.to_schema()) | {"laterality": side, "kind": kind} for side, kind in findings
                ],
            }
    write_studies(build_studies(rows), folder / "t.parquet")
    build_cache(
        folder / "t.parquet", folder / "cache", workers=0, policy="mammo-auto-1", frame=(200, 120), progress=False
    )
    return Cache.open(folder / "cache")


def choose(breasts: BreastViews, draws: int, seed: int = 0) -> list[list[tuple[int, int]]]:
    """(CC, MLO) of each breast over draws, views counted within their study."""
    every = np.arange(len(breasts.study))
    chosen = [breasts.choose(every, np.full(len(every), draw), seed) for draw in range(draws)]
    first = 4 * breasts.study
    return [
        [tuple(int(view) - int(first[b]) if view != NONE else NONE for view in one[b]) for one in chosen] for b in every
    ]


def test_images_of_a_part_or_without_a_breast_do_not_stand_for_it(cache: Cache) -> None:
    breasts = list_breasts(cache, cache.rows())
    named = [(int(s), LATERALITIES[side]) for s, side in zip(breasts.study, breasts.laterality, strict=True)]
    assert named == [(0, "left"), (1, "left"), (1, "right"), (2, "right")]
    assert breasts.count.tolist() == [[1, 2], [2, 0], [1, 1], [1, 0]]
    first, second, third, fourth = choose(breasts, 40)
    assert set(first) == {(0, 1), (0, 2)}  # both whole exposures are shown, the part never
    assert set(second) == {(0, NONE), (1, NONE)}
    assert set(third) == {(2, 3)}
    assert set(fourth) == {(2, NONE)}


def test_the_choice_belongs_to_study_draw_and_seed(cache: Cache) -> None:
    whole, part = list_breasts(cache, cache.rows()), list_breasts(cache, np.array([1]))
    assert choose(whole, 20) == choose(whole, 20)
    assert choose(part, 20) == choose(whole, 20)[1:3]  # other studies change nothing
    assert choose(whole, 20, seed=1) != choose(whole, 20)


def list_shown(batch: StudyBatch) -> dict[int, tuple[int, ...]]:
    """Study -> its views in the batch, counted within it."""
    row = batch.row[batch.study]
    return {study: tuple((batch.view_row[row == study] - 4 * study).tolist()) for study in sorted(batch.row.tolist())}


def test_the_loader_shows_one_image_of_each_view_drawn_anew(cache: Cache) -> None:
    rows = cache.rows()
    loader = StudyLoader(cache, rows, views_per_step=7, seed=0, breasts=True)
    assert loader.steps_per_epoch == 1  # seven views: two, one and two, and one of the last study's breast
    steps = list(islice(loader.iterate(), 40))
    shown = [list_shown(step.micro_batches[0]) for step in steps]
    assert {one[0] for one in shown} == {(0, 1), (0, 2)}
    assert {one[1] for one in shown} == {(0, 2, 3), (1, 2, 3)}
    assert {one[2] for one in shown} == {(2,)}
    table = list_breasts(cache, rows)
    for one, step in zip(shown, steps, strict=True):
        (left,) = table.choose(np.array([0]), np.array([step.epoch]), 0)
        assert one[0] == tuple(left - 4 * 0)
    resumed = next(loader.iterate(17))
    assert list_shown(resumed.micro_batches[0]) == shown[17]


def test_one_per_patient_draws_breasts_one_by_one_the_same_for_one_process_and_two(cache: Cache) -> None:
    """Four breasts of three studies: the left of 0, both of 1, one of 2; study 1's come in different steps."""
    how = {"views_per_step": 4, "seed": 0, "breasts": True, "one_per_patient": True}
    loader = StudyLoader(cache, cache.rows()[::-1], **how)
    assert loader.steps_per_epoch == 2
    steps = list(islice(loader.iterate(), 20))
    table = list_breasts(cache, cache.rows())
    whole = Counter(zip(table.study.tolist(), table.laterality.tolist(), strict=True))
    for epoch in range(10):
        met: Counter = Counter()
        for step in steps[2 * epoch : 2 * epoch + 2]:
            (batch,) = step.micro_batches
            assert len(set(batch.patient.tolist())) == batch.num_studies
            breasts = {*zip(batch.row[batch.study].tolist(), batch.laterality.tolist(), strict=True)}
            assert len(breasts) == batch.num_studies  # one side of each
            met.update(breasts)
            assert (batch.draw == epoch).all()
        assert met == whole
    assert len({key for step in steps for key in step.micro_batches[0].key.tolist()}) == 4  # breasts have their own
    resumed = next(loader.iterate(3, 1))
    torch.testing.assert_close(resumed.micro_batches[0].pixels, steps[7].micro_batches[0].pixels)
    ranks = [StudyLoader(cache, cache.rows(), **how, rank=rank, world_size=2) for rank in range(2)]
    for alone, *parts in islice(zip(loader.iterate(), *(rank.iterate() for rank in ranks), strict=True), 6):
        views = [part.micro_batches[0].view_row.tolist() for part in parts]
        assert sorted(alone.micro_batches[0].view_row.tolist()) == sorted(views[0] + views[1])


def test_a_breast_has_a_finding_where_the_table_says_what_is_seen(told: Cache) -> None:
    found = find_findings(told, list_breasts(told, told.rows()))
    assert found.has.tolist() == [True, False, True, False]
    assert found.kinds == {"mass": 1, "calcification": 1}


def test_breasts_with_findings_are_drawn_more_often_and_a_resumed_run_draws_the_same(told: Cache) -> None:
    """Of four breasts two have findings; three quarters are wanted: three draws of these an epoch, and one other."""
    how = {"views_per_step": 4, "seed": 0, "breasts": True, "one_per_patient": True, "finding_share": 0.75}
    loader = StudyLoader(told, told.rows(), **how)
    assert loader.findings is not None
    assert loader.findings[0] == (2, 4, 0.75, 3.0)
    num_epochs, drawn = 12, Counter()
    steps = list(islice(loader.iterate(), num_epochs * loader.steps_per_epoch))
    for step in steps:
        (batch,) = step.micro_batches
        assert len(set(batch.patient.tolist())) == batch.num_studies
        shown = {*zip(batch.row[batch.study].tolist(), batch.laterality.tolist(), strict=True)}
        assert len(shown) == batch.num_studies
        drawn.update((study, LATERALITIES[side]) for study, side in shown)
    assert drawn == {(0, "left"): 18, (1, "right"): 18, (1, "left"): 6, (2, "right"): 6}
    resumed = next(loader.iterate(5, 1))
    again = steps[5 * loader.steps_per_epoch + 1]
    torch.testing.assert_close(resumed.micro_batches[0].pixels, again.micro_batches[0].pixels)
    limited = StudyLoader(told, told.rows(), **how, max_oversampling=1.0)
    assert limited.findings is not None
    assert limited.findings[0] == (2, 4, 0.5, 1.0)


def test_whole_exams_with_findings_are_the_same_for_one_process_and_two(told: Cache) -> None:
    how = {"views_per_step": 14, "seed": 0, "breasts": True, "finding_share": 0.5}
    alone = StudyLoader(told, told.rows(), **how)
    assert alone.findings is not None
    assert alone.findings[0] == (2, 3, 2 / 3, 1.0)  # more than asked for, as they come
    ranks = [StudyLoader(told, told.rows(), **how, rank=rank, world_size=2) for rank in range(2)]
    for step, *parts in islice(zip(alone.iterate(), *(rank.iterate() for rank in ranks), strict=True), 6):
        views = [part.micro_batches[0].view_row.tolist() for part in parts]
        assert sorted(step.micro_batches[0].view_row.tolist()) == sorted(views[0] + views[1])


def test_a_cache_that_knows_no_findings_is_refused(cache: Cache, told: Cache, tmp_path: Path) -> None:
    how = {"views_per_step": 9, "seed": 0, "finding_share": 0.5}
    with pytest.raises(UserError, match="asks for breasts with findings, and its study table tells of none"):
        StudyLoader(cache, cache.rows(), **how, breasts=True)
    with pytest.raises(UserError, match="asks for breasts with findings, and of 1 to learn from none has one"):
        StudyLoader(told, np.array([2]), **how, breasts=True)
    with pytest.raises(UserError, match=r"is of breasts, and this cache is shown without data\.breasts"):
        StudyLoader(told, told.rows(), **how)
    chests = make_cache(tmp_path, [1, 2])
    with pytest.raises(UserError, match=r"is of breasts, and this cache is not of mammograms"):
        StudyLoader(chests, chests.rows(), **how, breasts=True)
    config = build_recipe("mvmae", "hilum", "nano")
    with pytest.raises(UserError, match=r"data\.finding_share is of breasts, and has no effect without data\.breasts"):
        check_effects(replace(config, data=replace(config.data, finding_share=0.5)))


def test_two_looks_and_evaluation_show_the_same_images_again(cache: Cache) -> None:
    twice = StudyLoader(cache, cache.rows(), views_per_step=14, looks=2, seed=0, breasts=True)
    (batch,) = next(twice.iterate()).micro_batches
    assert all(views == 2 * views[: len(views) // 2] for views in list_shown(batch).values())
    (first,), (again,) = (
        list(iterate_studies(cache, np.array([2, 0]), views_per_batch=9, breasts=True)) for _ in range(2)
    )
    assert list_shown(first) == list_shown(again)
    assert list_shown(first)[2] == (2,)
    (every,) = iterate_studies(cache, np.array([2, 0]), views_per_batch=9)
    assert list_shown(every) == {0: (0, 1, 2, 3), 2: (0, 1, 2, 3)}


def test_studies_without_standard_views_are_left_out_and_chests_are_shown_whole(cache: Cache, tmp_path: Path) -> None:
    views, kind = cache.views.copy(), VIEW_KINDS.index("unknown")
    views["view_kind"][views["study"] == 1] = kind
    some = replace(cache, views=views)
    (batch,) = iterate_studies(some, cache.rows(), views_per_batch=99, breasts=True)
    assert batch.row.tolist() == [0, 2]
    views["view_kind"] = kind
    with pytest.raises(UserError, match="none of 3 studies has a CC or MLO view"):
        StudyLoader(some, cache.rows(), views_per_step=9, seed=0, breasts=True)
    chests = make_cache(tmp_path, [1, 2])
    (plain,), (same,) = (
        list(iterate_studies(chests, chests.rows(), views_per_batch=99, breasts=breasts)) for breasts in (False, True)
    )
    assert plain.view_row.tolist() == same.view_row.tolist() == [0, 1, 2]


def test_a_cap_on_views_beside_breasts_is_refused() -> None:
    config = build_recipe("mv_clip_tr", "hilum", "nano")
    with pytest.raises(UserError, match=r"data\.max_views has no effect beside data\.breasts"):
        check_effects(replace(config, data=replace(config.data, max_views=2)))


def test_a_cache_of_chests_has_no_breasts(tmp_path: Path) -> None:
    chests = make_cache(tmp_path, [1])
    with pytest.raises(UserError, match="not for mammograms"):
        list_breasts(chests, chests.rows())


def test_a_floor_of_two_views_beside_one_per_patient_is_refused() -> None:
    config = build_recipe("mv_clip_tr", "hilum", "nano")
    assert config.data.one_per_patient
    with pytest.raises(UserError, match=r"data\.multi_view_floor has no effect beside data\.one_per_patient"):
        check_effects(replace(config, data=replace(config.data, multi_view_floor=0.5)))
