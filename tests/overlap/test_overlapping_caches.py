"""Overlap of two collections: planted patients, images and copies are found, and nothing else."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from hilum.cli import main
from hilum.overlap.compare import find_overlap
from hilum.study import read_studies, write_studies
from sources.archives.pictures import compress, draw, save
from toy_archive import write_archive
from toy_cache import build


def make_pair(folder: Path, *, same: bool = False, copy: bool = False, patient: bool = False) -> tuple[Path, Path]:
    """Study tables of two archives of four images: the second may hold an image, a copy or a patient of the first."""
    tables = []
    for number, dataset in enumerate(("one", "two")):
        table = write_archive(folder / dataset, [1] * 4, dataset=dataset, seed=number)
        for place in range(4):
            save(draw(10 * number + place), folder / dataset / f"{dataset}-{place:03d}-0.png")
        tables.append(table)
    if same:
        save(draw(2), folder / "two" / "two-001-0.png")
    if copy:
        save(compress(draw(3)), folder / "two" / "two-002-0.png")
    if patient:
        frame = read_studies(tables[1])
        name = pl.when(pl.col("study") == "s003").then(pl.lit("one-p000")).otherwise("patient")
        write_studies(frame.with_columns(patient=name, group=name), tables[1])
    return tables[0], tables[1]


def test_strangers_share_nothing(tmp_path: Path) -> None:
    one, other = make_pair(tmp_path)
    shared = find_overlap(one, other)
    assert shared.is_empty
    assert (shared.num_patients, shared.num_images, shared.num_copies) == (0, 0, None)
    caches = [build(table, tmp_path / f"cache{number}") for number, table in enumerate((one, other))]
    shared = find_overlap(caches[0].path, caches[1].path)
    assert shared.is_empty
    assert shared.num_copies == 0


@pytest.mark.parametrize(
    ("planted", "counts", "study"),
    [
        ({"patient": True}, (1, 0, 0), "two/s003"),
        ({"same": True}, (0, 1, 0), "two/s001"),
        ({"copy": True}, (0, 0, 1), "two/s002"),
        ({"patient": True, "same": True, "copy": True}, (1, 1, 1), "3 studies"),
    ],
)
def test_what_is_planted_is_found(
    tmp_path: Path, planted: dict[str, bool], counts: tuple[int, ...], study: str
) -> None:
    tables = make_pair(tmp_path, **planted)
    caches = [build(table, tmp_path / f"cache{number}") for number, table in enumerate(tables)]
    shared = find_overlap(caches[0].path, caches[1].path)
    assert (shared.num_patients, shared.num_images, shared.num_copies) == counts
    assert study in str(shared)


def test_the_command_tells_by_its_exit_code(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, other = make_pair(tmp_path / "a", patient=True)
    assert main(["overlap", str(one), str(other)]) == 3
    assert (
        "1 patient, 0 images of the same pixels, copies in other pixels not looked for: 1 study"
        in capsys.readouterr().out
    )
    one, other = make_pair(tmp_path / "b")
    assert main(["overlap", str(one), str(other)]) == 0
    assert main(["overlap", str(one), str(tmp_path / "none.parquet")]) == 2
