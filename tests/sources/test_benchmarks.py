"""The sets PaCX-MAE is evaluated on: labels, patients, masks, and what training shares with a later split."""

from __future__ import annotations

import sys
from pathlib import Path

import polars as pl
import pytest

from hilum.cli import main
from hilum.errors import UserError
from hilum.identifiers import Naming
from hilum.sources import vindr_cxr
from hilum.sources.named import READERS, ingest_archive
from hilum.sources.vindr_cxr import vote
from hilum.study import read_studies
from sources.archives.chexchonet import write_chexchonet
from sources.archives.csv_files import set_cell
from sources.archives.folders import write_chestx6, write_covid_qu_ex, write_cxl_seg, write_qata_cov19, write_tb_chest
from sources.archives.vindr_cxr import write_vindr_cxr
from toy_table import QUIET


def ingest(name: str, root: Path, **settings) -> tuple[pl.DataFrame, str, dict[str, str]]:
    """The study table in the order of its paths, what the user is told, and what was rejected for which reason."""
    out = root.parent / f"{root.name}.parquet"
    summary, _ = ingest_archive(name, root, out, naming=Naming(keep_ids=True), console=QUIET, **settings)
    frame = read_studies(out).with_columns(path=pl.col("views").list.first().struct.field("path")).sort("path")
    return (
        frame,
        "\n".join([*summary.notes, *summary.warnings]),
        dict(pl.read_parquet(summary.rejected_path).iter_rows()),
    )


def count(frame: pl.DataFrame) -> dict[str | None, int]:
    return dict(frame.group_by("split").len().iter_rows())


def test_chexchonet_keeps_measurements_and_blank_labels_are_unknown(tmp_path: Path) -> None:
    frame, notes, _ = ingest("chexchonet", write_chexchonet(tmp_path / "d"))
    assert frame["patient"].to_list() == ["chexchonet:CX900001"] * 2 + ["chexchonet:CX900002", "chexchonet:CX900003"]
    assert frame["day"].to_list() == [0.0, 365.0, 0.0, 0.0]
    assert frame["extra_echo:composite_slvh_dlv"].to_list() == ["0", "1", "1", None]
    assert frame["extra_echo:slvh"].to_list() == ["0", "1", None, "0"]
    assert frame["extra_ivsd"].to_list() == ["1.1", "1.6", None, None]
    assert frame["extra_lvidd"].to_list() == ["4.6", "4.6", "6.1", "5.0"]
    assert "slvh 1, dlv 1" in notes
    assert frame["split"].null_count() == 4


def test_chexchonet_refuses_a_label_that_is_none(tmp_path: Path) -> None:
    root = write_chexchonet(tmp_path / "d")
    set_cell(root / "metadata.csv", 2, "dlv", "maybe")
    with pytest.raises(UserError, match=r"metadata.csv, row 4: column 'dlv' \(dlv\) has 'maybe', expected 1, 0, True"):
        ingest("chexchonet", root)


def test_vindr_votes_and_calls_other_disease_by_one_name(tmp_path: Path) -> None:
    frame, notes, _ = ingest("vindr-cxr", write_vindr_cxr(tmp_path / "d"))
    assert [Path(path).stem for path in frame["path"]] == ["bbb1", "bbb2", "aaa1", "aaa2", "aaa3"]
    assert frame["split"].to_list() == ["test", "test", None, None, None]
    assert frame["extra_vindr:ILD"].to_list() == ["0", "0", "1", "0", "0"]
    assert frame["extra_vindr:Other diseases"].to_list() == ["1", "0", "0", "0", "0"]
    assert frame["extra_vindr:Cardiomegaly"].to_list() == ["0", "0", "0", "0", "1"]
    assert frame["patient"].n_unique() == 5
    assert "says of no image whose it is" in notes
    assert sum(name.startswith("extra_vindr:") for name in frame.columns) == 27
    few, notes, _ = ingest("vindr-cxr", tmp_path / "d", min_positives=1)
    assert [name for name in few.columns if name.startswith("extra_vindr:")] == [
        "extra_vindr:Cardiomegaly",
        "extra_vindr:ILD",
    ]
    assert "fewer than 1 training images are left out: Aortic enlargement 0" in notes
    with pytest.raises(UserError, match="no label has so many; most has 1"):
        ingest("vindr-cxr", tmp_path / "d", min_positives=2)


@pytest.mark.parametrize(
    ("said", "voted"),
    [("110", "1"), ("100", "0"), ("10", "1"), ("000", "0"), ("1-", "1"), ("--", None), ("0--", "0")],
)
def test_half_of_the_readers_who_answered_are_enough(said: str, voted: str | None) -> None:
    states = [None if word == "-" else word for word in said]
    readings = pl.DataFrame({"_row": range(len(said)), "split": "train", "image": "i", "ILD": states})
    assert vote(readings.with_columns(pl.col("ILD").cast(pl.String)), ["ILD"])["ILD"].to_list() == [voted]


def test_tb_is_read_from_names_and_held_against_the_tables(tmp_path: Path) -> None:
    frame, notes, _ = ingest("tb-chest", write_tb_chest(tmp_path / "d"))
    assert dict(frame.select("patient", "extra_tb").iter_rows()) == {
        "tb-shenzhen:CHNCXR_0001": "normal",
        "tb-shenzhen:CHNCXR_0327": "tuberculosis",
        "tb-shenzhen:CHNCXR_0328": "tuberculosis",
        "tb-montgomery:MCUCXR_0001": "normal",
        "tb-montgomery:MCUCXR_0104": "tuberculosis",
    }
    shenzhen = frame.filter(pl.col("dataset") == "tb-shenzhen").sort("patient")
    assert shenzhen.select("age", "sex").rows() == [(45.0, "M"), (30.0, "F"), (None, "F")]
    assert "call 1 images otherwise than their names do, the first CHNCXR_0328_1" in notes
    assert not any("Mask" in path for path in frame["path"])


def test_chestx6_loses_the_copies_of_later_splits(tmp_path: Path) -> None:
    frame, notes, rejected = ingest("chestx6", write_chestx6(tmp_path / "d"))
    assert count(frame) == {"train": 9, "val": 2, "test": 2}
    reason = "its person, or a copy of it, is in the {} split too"
    assert {path.split("/", 1)[1]: why for path, why in rejected.items()} == {
        "train/Covid-19/aug_1.png": reason.format("test"),
        "train/Normal/copy.png": reason.format("val"),
        "val/Tuberculosis/copy.png": reason.format("test"),
    }
    assert "3 images of training or validation are of persons, or copies" in notes
    assert frame["extra_class"].unique().sort().to_list() == ["Emphysema", "Normal", "Tuberculosis"]
    assert frame["group"].n_unique() == len(frame)


def test_chestx6_needs_its_folders(tmp_path: Path) -> None:
    root = write_chestx6(tmp_path / "d")
    (root / "chest" / "train" / "Normal").rename(root / "chest" / "train" / "Healthy")
    with pytest.raises(UserError, match="has a folder Healthy, expected the classes Covid-19"):
        ingest("chestx6", root)
    with pytest.raises(UserError, match="has no folders like train/Covid-19"):
        ingest("chestx6", root / "chest" / "val")


def test_covid_qu_ex_pairs_masks_by_name_and_people_by_their_subject(tmp_path: Path) -> None:
    frame, notes, rejected = ingest("covid-qu-ex", write_covid_qu_ex(tmp_path / "d"))
    # Of 18 images one has no mask, and one of training is of a subject of the test.
    assert count(frame) == {"train": 5, "val": 5, "test": 6}
    assert sorted(rejected.values()) == [
        "its person, or a copy of it, is in the test split too",
        "no mask NAME in lung masks",
    ]
    for path, mask in frame.select("path", "extra_mask").iter_rows():
        assert Path(path).name == Path(mask).name
        assert Path(path).parents[1] == Path(mask).parents[1]
    assert "1 masks in" in notes
    assert "Of 17 images 3 have a subject in their name, of 2" in notes
    assert set(frame["extra_class"]) == {"COVID-19", "Non-COVID", "Normal"}
    assert frame.filter(frame["patient"] == "bimcv:bimcv:S09003")["split"].to_list() == ["val"]


def test_qata_pairs_masks_by_its_own_rule(tmp_path: Path) -> None:
    frame, _, rejected = ingest("qata-cov19", write_qata_cov19(tmp_path / "d"))
    assert count(frame) == {None: 2, "test": 2}
    assert list(rejected.values()) == ["its person, or a copy of it, is in the test split too"]
    assert all(
        Path(mask).name == f"mask_{Path(path).name}" for path, mask in frame.select("path", "extra_mask").iter_rows()
    )


def test_cxl_seg_names_masks_and_keeps_patients_of_mimic(tmp_path: Path) -> None:
    root = write_cxl_seg(tmp_path / "d")
    frame, notes, _ = ingest("cxl-seg", root)
    assert frame["extra_mask"].to_list() == [path.replace(".jpg", "-mask.jpg") for path in frame["path"]]
    assert all((root / path).is_file() for column in ("path", "extra_mask") for path in frame[column])
    assert frame["patient"].to_list()[:2] == ["mimic-cxr:19000001"] * 2
    assert "output of a model" in notes
    set_cell(root / "CXLSeg-split.csv", 1, "split", "test")
    with pytest.raises(
        UserError, match=r"1 patient in several splits; the first in train \(row 2\) and test \(row 3\)"
    ):
        ingest("cxl-seg", root)
    assert ingest("cxl-seg", root, own_splits=True)[0]["split"].null_count() == 4


@pytest.mark.parametrize(
    ("name", "write", "lost", "counts"),
    [
        ("chexchonet", write_chexchonet, "metadata.csv", {"images": 4, "patients": 3}),
        (
            "vindr-cxr",
            write_vindr_cxr,
            "image_labels_train.csv",
            dict.fromkeys(vindr_cxr.PUBLISHED, 0)
            | {"training images": 3, "test images": 2, "ILD": 1, "Cardiomegaly": 1},
        ),
        ("tb-chest", write_tb_chest, "MCUCXR_0001_0.png", {"tb-shenzhen": 3, "tb-montgomery": 2}),
        ("chestx6", write_chestx6, "train", {"train": 11, "val": 3, "test": 2}),
        ("covid-qu-ex", write_covid_qu_ex, "Lung Segmentation Data", {"train": 6, "val": 5, "test": 6}),
        ("qata-cov19", write_qata_cov19, "Train Set", {"images": 5}),
        ("cxl-seg", write_cxl_seg, "CXLSeg-split.csv", {"images": 4}),
    ],
)
def test_downloads_are_checked_against_the_published_counts_and_left_as_they_were(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, name: str, write, lost: str,
    counts: dict[str, int],
) -> None:  # fmt: skip
    root = write(tmp_path / "d")
    before = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
    module, first = sys.modules[READERS[name].__module__], next(iter(counts))
    published = module.PUBLISHED[first]
    assert main(["sources", name, "--check", str(root)]) == 3
    assert f"differs  {first}: {counts[first]:,}, published {published:,}" in capsys.readouterr().out
    monkeypatch.setattr(module, "PUBLISHED", counts)
    assert main(["sources", name, "--check", str(root)]) == 0
    assert f"{len(counts)} of {len(counts)} counts are as published." in capsys.readouterr().out
    assert main(["ingest", name, str(root), "--out", str(tmp_path / "out" / "s.parquet")]) in (0, 3)
    assert {path: path.read_bytes() for path in root.rglob("*") if path.is_file()} == before
    capsys.readouterr()
    (tmp_path / "empty").mkdir()
    assert main(["ingest", name, str(tmp_path / "empty"), "--check"]) == 3
    assert lost in capsys.readouterr().out
    assert main(["ingest", name, str(tmp_path / "nowhere"), "--out", str(tmp_path / "x.parquet")]) == 2
