"""The rows of VinDr-Mammo's findings as examples: an image of several rows is several, and may be of both classes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from hilum.cache import SPLITS, Cache
from hilum.cache.writer import build_cache
from hilum.errors import UserError
from hilum.evaluate.controls import embed_pixels
from hilum.evaluate.features import ViewFeatures
from hilum.evaluate.grouping import list_owners
from hilum.evaluate.mammo_clip_task import count_rows
from hilum.evaluate.probe.protocol import ProbeProtocol
from hilum.evaluate.probe.report import check_labels
from hilum.evaluate.probe.run import probe_encoder
from hilum.evaluate.prompted.zero_shot import find_owners
from hilum.evaluate.record import record_probe
from hilum.evaluate.rows import take_rows
from hilum.evaluate.slices import list_slices
from hilum.evaluate.task import Task, read_task
from hilum.identifiers import Naming
from hilum.sources.named import ingest_archive
from sources.archives.csv_files import read_csv, write_csv
from sources.archives.vindr_mammo import write_vindr_mammo
from toy_table import QUIET

BOX, OTHER = ("96.0", "180.0", "128.0", "212.0"), ("10.5", "20.0", "60.0", "70.25")
# Exams e1, e2, e4 and e5 are of training, e3 of the test; each has four images.
FOUND = {
    "e1-0": [(["Mass"], BOX), (["Mass"], BOX)],  # two rows in one place, both of the same label
    # A box of two words is one row, and another row has the same box: the image is of both labels, of both findings.
    "e1-1": [(["Mass", "Skin Retraction"], BOX), (["Suspicious Calcification"], BOX)],
    "e2-0": [(["Suspicious Calcification"], OTHER)],
    "e4-2": [(["Skin Thickening"], OTHER)],
    "e3-0": [(["Suspicious Calcification"], BOX), (["Suspicious Calcification"], OTHER)],
    "e3-3": [(["Suspicious Lymph Node"], OTHER), (["Mass"], BOX)],
}


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Cache:
    root = write_vindr_mammo(tmp_path_factory.mktemp("vindr"))
    file = root / "finding_annotations.csv"
    columns, rows = read_csv(file)
    first = {row[columns.index("image_id")]: row for row in reversed(rows)}
    listed = []
    for image, row in reversed(first.items()):
        for words, box in FOUND.get(image, [(["No Finding"], ("",) * 4)]):
            cells = dict(zip(columns, row, strict=True)) | {"finding_categories": repr(words), "finding_birads": ""}
            cells |= dict(zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True))
            listed.append([cells[column] for column in columns])
    # Rows of an image need not be neighbours.
    write_csv(file, columns, sorted(listed, key=lambda row: row[columns.index("finding_categories")]))
    summary, _ = ingest_archive(
        "vindr-mammo", root, root / "out" / "breasts.parquet", naming=Naming(keep_ids=True, id_space=""), console=QUIET
    )
    build_cache(
        summary.out, root / "cache", workers=0, short_side=64, progress=False,
        split_rule="rank", split_fractions={"train": 0.75, "val": 0.25, "test": 0.0},
    )  # fmt: skip
    return Cache.open(root / "cache")


@pytest.fixture(scope="module")
def features(cache: Cache) -> ViewFeatures:
    return embed_pixels(cache, side=8, progress=False)


def list_shown(cache: Cache, task: Task, row: np.ndarray) -> list[str]:
    paths = cache.table()["views"].explode().struct.field("path").to_list()
    return [Path(paths[view]).stem for view in task.find_views(row)]


def test_rows_and_labels_are_those_counted_by_hand(cache: Cache) -> None:
    """Training: 16 images, 18 rows; mass in 3 rows of 2 images, calcification in 2. Test: 4 images, 6 rows."""
    mass, calcification = read_task(cache, "mammo-clip-rows:mass"), read_task(cache, "mammo-clip-rows:calcification")
    expected = {"rows": 18, "positives": 3, "images": 16, "images_of_both_labels": 1}
    assert mass.policy["training"] == expected
    assert mass.policy["test"] == {"rows": 6, "positives": 1, "images": 4, "images_of_both_labels": 1}
    assert mass.policy["negatives_per_positive"] == 5.0  # 15 / 3
    assert calcification.policy["training"] == expected | {"positives": 2}
    assert calcification.policy["test"] == {"rows": 6, "positives": 2, "images": 4, "images_of_both_labels": 0}
    assert calcification.policy["negatives_per_positive"] == 8.0
    shown = list_shown(cache, mass, np.arange(len(mass.target)))
    said: dict[str, list[float]] = {image: [] for image in shown}
    for image, state in zip(shown, mass.target[:, 0].tolist(), strict=True):
        said[image].append(state)
    several = {image: sorted(states) for image, states in said.items() if states != [0.0]}
    assert several == {"e1-0": [1.0, 1.0], "e1-1": [0.0, 1.0], "e3-0": [0.0, 0.0], "e3-3": [0.0, 1.0]}
    assert any(
        "1 images of training and 1 of the test are examples of mass and of no mass" in one for one in mass.notes
    )
    assert not any("Chosen on the test split" in one for one in mass.notes)


def test_the_published_weights_are_what_the_published_rows_give() -> None:
    """15,402 / 989 and 15,963 / 428 of 16,391 rows (L 3.2), each image a row."""
    for positives, weight in ((989, 15.5733), (428, 37.2967)):
        target = (np.arange(16_391 + 4_095) % 16_391 < positives).astype(np.float32)[:, None]
        split = np.where(np.arange(len(target)) < 16_391, 0, SPLITS.index("test"))
        split[5000:6000] = SPLITS.index("val")  # which the protocol trains on
        blank = np.zeros(len(target), np.int64)
        group = pl.Series(["p"] * len(target))
        task = Task("", "view", ("mass",), target, blank, blank, split, group, {}, "")
        counts = count_rows(task, np.arange(len(target)))
        assert (counts["training"]["rows"], counts["test"]["rows"]) == (16_391, 4_095)
        assert counts["negatives_per_positive"] == weight


def test_an_image_of_several_rows_is_read_once_for_each(cache: Cache, features: ViewFeatures) -> None:
    task = read_task(cache, "mammo-clip-rows:mass")
    rows = take_rows(features, task, task.rows(), "mean")
    shown = np.array(list_shown(cache, task, rows.row))
    assert len(rows) == len(rows.features) == 24
    own = take_rows(features, read_task(cache, "image:mass"), np.arange(20), "mean")
    for view, vector in zip(task.find_views(rows.row), rows.features, strict=True):
        np.testing.assert_array_equal(vector, own.features[view])
    assert [int((shown == image).sum()) for image in ("e1-0", "e1-1", "e3-3", "e5-0")] == [2, 2, 2, 1]
    kinds = list_slices(cache, task)
    assert kinds["kind=cc"].tolist() == [image[-1] in "02" or image == "e2-1" for image in shown]


def test_the_whole_protocol_trains_on_all_that_is_not_test_and_chooses_on_it(
    cache: Cache, features: ViewFeatures
) -> None:
    ours, whole = (read_task(cache, f"{kind}:mass") for kind in ("mammo-clip-rows", "mammo-clip"))
    assert (len(ours.rows("train")) + len(ours.rows("val")), len(ours.rows("test"))) == (18, 6)
    assert len(ours.rows("val")) >= 4
    assert len(whole.rows("train")) == 18
    np.testing.assert_array_equal(whole.rows("val"), whole.rows("test"))
    found = probe_encoder(features, whole, name="pixels", head="sgd-parity")
    assert (found.counts["train_rows"], found.counts["val_rows"], found.counts["test_rows"]) == (18, 6, 6)
    np.testing.assert_array_equal(found.val.logit, found.test.logit)
    result = record_probe(found, min_positives=1, num_resamples=20)
    assert result.protocol["validation"].startswith("the test split")
    assert result.protocol["trained_with"]["images_per_step"] == 8
    assert any(one.startswith("Chosen on the test split") for one in result.notes)
    with pytest.raises(UserError, match="--crossval tests on all rows"):
        check_labels(whole, ProbeProtocol(crossval=True))


def test_what_gives_one_answer_to_each_view_refuses_such_rows(cache: Cache) -> None:
    task = read_task(cache, "mammo-clip-rows:mass")
    with pytest.raises(UserError, match="ask for image:mass"):
        list_owners(cache, task)
    with pytest.raises(UserError, match="ask for image:mass"):
        find_owners(task, cache, np.arange(3), np.arange(3))


def test_tasks_that_cannot_be_made_say_why(cache: Cache, exam_cache: Cache) -> None:
    with pytest.raises(UserError, match="Tasks of Mammo-CLIP: mammo-clip:mass, mammo-clip:calcification"):
        read_task(cache, "mammo-clip:density")
    with pytest.raises(UserError, match="no finding of this cache tells its row"):
        read_task(exam_cache, "mammo-clip-rows:mass")
