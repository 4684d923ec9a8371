"""The complete published tables give the specification's counts (M 1.3, 1.4, tests 1 to 5 and the data of 7).

What torchxrayvision does not hold is tested where a variable of the environment says where it lies: the lists of the
NIH (HILUM_NIH_LISTS, a folder) here, PadChest's official map (HILUM_PADCHEST_MAP, a file) in test_padchest_map.py.
"""

from __future__ import annotations

import os
from pathlib import Path

import polars as pl
import pytest
from published import lay_out

from hilum.identifiers import Naming
from hilum.labels import FINDINGS
from hilum.sources import chestxray14, chexpert, openi, padchest
from hilum.sources.archive import complete_images
from hilum.sources.named import ingest_archive
from hilum.splits import assign_splits, check_no_overlap, group_patients
from hilum.study import build_studies, read_studies
from toy_table import QUIET, SALT


def describe(images: pl.DataFrame) -> dict:
    """The row of M 1.3's table of view structure."""
    studies = images.group_by("study").agg(
        pl.len().alias("num"), *((pl.col("kind") == kind).sum().alias(kind) for kind in ("frontal", "lateral"))
    )
    both = (pl.col("frontal") > 0) & (pl.col("lateral") > 0)
    counts = images["kind"].value_counts()
    return {
        "images": len(images),
        "kinds": dict(counts.iter_rows()),
        "views": tuple(int(studies.select(views.sum()).item()) for views in _group_numbers(pl.col("num"))),
        "both": studies.filter(both).height,
        "exact": studies.filter((pl.col("frontal") == 1) & (pl.col("lateral") == 1) & (pl.col("num") == 2)).height,
        "mean of three": round(studies["num"].clip(upper_bound=3).mean(), 4),
    }


def _group_numbers(num: pl.Expr) -> tuple[pl.Expr, ...]:
    return num == 1, num == 2, num >= 3


@pytest.fixture(scope="module")
def padchest_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return lay_out("padchest", tmp_path_factory.mktemp("padchest"))


@pytest.fixture(scope="module")
def padchest_images(padchest_root: Path) -> pl.DataFrame:
    return complete_images(padchest.read(padchest_root).images, "padchest")


def test_padchest_views_are_those_of_the_specification(padchest_images: pl.DataFrame) -> None:
    assert describe(padchest_images) == {
        "images": 160_861,
        "kinds": {"frontal": 110_633, "lateral": 49_579, "unknown": 649},
        "views": (60_677, 48_009, 1_245),
        "both": 47_951,
        "exact": 46_870,
        "mean of three": 1.4594,
    }
    numbers = padchest_images.group_by("study").len()["len"]
    assert (len(numbers), padchest_images["patient"].n_unique()) == (109_931, 67_625)
    assert (numbers.max(), (numbers > 3).sum()) == (11, 310)
    unknown = padchest_images.filter(pl.col("kind") == "unknown")["position"].value_counts()
    assert dict(unknown.iter_rows()) == {"COSTAL": 630, "EXCLUDE": 11, "UNK": 8}


def test_padchest_labels_keep_their_raw_words(padchest_images: pl.DataFrame) -> None:
    studies = padchest_images.unique("study")
    assert (studies["extra_labelled_by"] == "Physician").sum() == 26_413
    assert padchest_images["extra_labels"].null_count() == 103
    raw = padchest_images["extra_labels"].drop_nulls().str.extract_all(r"'[^']*'").list.explode().str.strip_chars("'")
    assert not padchest_images["extra_labels"].str.contains('"').any()
    assert (raw.n_unique(), raw.str.strip_chars().n_unique()) == (350, 194)
    assert set(studies["extra_language"].drop_nulls()) == {"es"}


def test_padchest_studies_of_which_nothing_can_be_said(padchest_images: pl.DataFrame) -> None:
    studies = padchest_images.unique("study")
    unreadable = studies["extra_labels"].str.contains(r"'\s*(exclude|suboptimal study)\s*'").fill_null(False)
    unlabelled = ~studies["extra_labels"].str.contains(r"\w").fill_null(False)
    assert (unreadable.sum(), unlabelled.sum()) == (2_413, 590)  # 79 without a token, 511 with an empty one only
    lost = studies["extra_undecided"] == ";".join(FINDINGS)
    assert lost.fill_null(False).equals(unreadable | unlabelled)
    states = studies.filter(lost).select(FINDINGS)
    assert states.select(pl.all().null_count()).row(0) == (len(states),) * 14
    # Elsewhere a blank No Finding is the only thing left open.
    rest = studies.filter(~lost.fill_null(False))
    assert (rest["extra_undecided"] == "No Finding").fill_null(False).equals(rest["No Finding"].is_null())


def test_padchest_patients_split_by_rank_into_the_specified_counts(padchest_images: pl.DataFrame) -> None:
    # A row for each pair of study and patient: the one study of two patients stands under both.
    pairs = padchest_images.unique(["study", "patient"], maintain_order=True)
    assert len(pairs) == 109_932
    frame = build_studies(pairs.select("dataset", "study", "patient", root=pl.lit("/")))
    joined = group_patients(frame)
    assert joined["group"].n_unique() == 67_624
    split = assign_splits(joined, rule="rank", fractions={"train": 0.97, "val": 0.015, "test": 0.015})
    counts = dict(split.group_by("split").agg(pl.col("patient").n_unique()).iter_rows())
    assert counts == {"train": 65_596, "val": 1_014, "test": 1_015}
    check_no_overlap(split)
    mixed = pairs.filter(pl.col("study").is_duplicated())["patient"]
    assert split.filter(pl.col("patient").is_in(mixed.to_list()))["split"].n_unique() == 1


def test_padchest_ingest_writes_no_id_and_no_date(padchest_root: Path, tmp_path: Path) -> None:
    (file,) = padchest_root.iterdir()
    table = pl.read_csv(file, infer_schema=False)
    owners = table.group_by("StudyID").agg(pl.col("PatientID").n_unique())
    (mixed,) = owners.filter(pl.col("PatientID") == 2)["StudyID"]
    rows = table.filter((pl.col("StudyID") == mixed) | (pl.int_range(pl.len()) < 4_000))
    rows.write_csv(tmp_path / file.name.removesuffix(".gz"))
    summary, settings = ingest_archive(
        "padchest", tmp_path, tmp_path / "s.parquet", naming=Naming(salt=SALT), console=QUIET
    )
    assert (summary.studies.num_studies, settings) == (rows["StudyID"].n_unique(), ())
    assert any("1 study id with two patient ids" in note for note in summary.notes)
    frame = read_studies(summary.out)
    assert frame["patient"].str.contains(r"^[0-9a-f]{32}$").all()
    assert frame["study"].str.contains(r"^[0-9a-f]{32}$").all()
    written = summary.out.read_bytes()
    assert not any(date.encode() in written for date in rows["StudyDate_DICOM"].unique())
    assert frame["split"].null_count() == len(frame)
    days = frame.group_by("patient").agg(pl.col("day").min())["day"]
    assert (days.min(), days.max()) == (0.0, 0.0)
    assert frame["age"].is_between(0, 105).sum() > 0.99 * len(frame)


def test_chexpert_training_table(tmp_path: Path) -> None:
    images = chexpert.read(lay_out("chexpert", tmp_path)).images
    assert describe(images) == {
        "images": 223_414,
        "kinds": {"frontal": 191_027, "lateral": 32_387},
        "views": (153_647, 32_215, 1_779),
        "both": 31_413,
        "exact": 29_675,
        "mean of three": 1.1906,
    }
    studies = images.group_by("study").agg(pl.col(FINDINGS).first(), (pl.col("kind") == "lateral").all())
    assert (len(studies), images["patient"].n_unique()) == (187_641, 64_540)
    assert studies["kind"].sum() == 16
    # M 1.4: % positive of n = 187,641, alphabetically.
    percent = [round(100 * (studies[name] == 1).sum() / len(studies), 2) for name in FINDINGS]
    assert percent == [15.63, 12.26, 6.78, 26.06, 4.81, 3.87, 3.65, 49.39, 8.86, 40.34, 1.30, 2.44, 9.23, 56.40]
    assert studies.filter(~pl.any_horizontal((pl.col(name) == 1).fill_null(False) for name in FINDINGS)).height == 7_591
    assert set(images["split"]) == {"train"}
    # 0 is a code: nobody is between 1 and 17.
    assert images["age"].min() == 18
    assert images["age"].null_count() == 3


def test_chestxray14_table(tmp_path: Path) -> None:
    images = complete_images(chestxray14.read(lay_out("chestxray14", tmp_path), own_splits=True).images, "chestxray14")
    assert describe(images) == {
        "images": 112_120,
        "kinds": {"frontal": 112_120},
        "views": (112_120, 0, 0),
        "both": 0,
        "exact": 0,
        "mean of three": 1.0,
    }
    assert images["patient"].n_unique() == 30_805
    assert dict(images["position"].value_counts().iter_rows()) == {"PA": 67_310, "AP": 44_810}
    blank = [name for name in FINDINGS if images[name].null_count()]
    assert blank == ["Enlarged Cardiomediastinum", "Fracture", "Support Devices"]
    assert all(images[name].null_count() == len(images) for name in blank)
    # As the paper and its table count them.
    assert [(images[name] == 1).sum() for name in ("Cardiomegaly", "Pleural Effusion", "No Finding")] == [
        2_776,
        13_317,
        60_361,
    ]
    # Its own labels (P 3.7), as the whole table counts them.
    own = {name.partition(":")[2]: (images[name] == "1").sum() for name in images.columns if ":" in name}
    assert own == {
        "Atelectasis": 11_559, "Cardiomegaly": 2_776, "Consolidation": 4_667, "Edema": 2_303, "Effusion": 13_317,
        "Emphysema": 2_516, "Fibrosis": 1_686, "Hernia": 227, "Infiltration": 19_894, "Mass": 5_782, "Nodule": 6_331,
        "Pleural_Thickening": 3_385, "Pneumonia": 1_431, "Pneumothorax": 5_302,
    }  # fmt: skip


def draw_nih_test(images: pl.DataFrame) -> pl.DataFrame:
    """Some 2,797 patients of 25,596 images, numbers of the NIH's own test list: large ones first, then small ones."""
    sizes = images.group_by("patient").len().sort("len", "patient", descending=[True, False])
    small = sizes.filter(pl.col("len") == 1)["patient"]
    drawn, room, left = [], 25_596, 2_797
    for patient, size in sizes.iter_rows():
        if left and room - size >= left - 1 and size > 1:
            drawn.append(patient)
            room, left = room - size, left - 1
        if room == left:
            break
    return images.filter(pl.col("patient").is_in([*drawn, *small[:left]]))


@pytest.mark.parametrize("lists", ["drawn", "official"])
def test_chestxray14_lists(lists: str, tmp_path: Path) -> None:
    """M 8-5. Without the NIH's own lists, others of their sizes."""
    root = lay_out("chestxray14", tmp_path)
    if lists == "official":
        if not (given := os.environ.get("HILUM_NIH_LISTS")):
            pytest.skip("no train_val_list.txt and test_list.txt of the NIH: set HILUM_NIH_LISTS to their folder")
        for name in (chestxray14.TRAIN_VAL, chestxray14.TEST):
            (root / name).symlink_to(Path(given, name).absolute())
    else:
        everything = chestxray14.read(root, own_splits=True).images.select("study", "patient")
        test = draw_nih_test(everything)
        rest = everything.join(test, on="study", how="anti")
        for name, part in ((chestxray14.TRAIN_VAL, rest), (chestxray14.TEST, test)):
            (root / name).write_text("\n".join(part["study"]) + "\n")
    images = complete_images(chestxray14.read(root).images, "chestxray14")
    # The NIH draws no line between training and validation: 75,312 + 11,212 images, 24,342 + 3,666 patients.
    counts = images.group_by("split").agg(pl.len(), pl.col("patient").n_unique().alias("patients"))
    assert set(counts.iter_rows()) == {(None, 86_524, 28_008), ("test", 25_596, 2_797)}
    assert (75_312 + 11_212, 24_342 + 3_666) == (86_524, 28_008)
    assert images["patient"].n_unique() == 30_805 == 28_008 + 2_797  # nobody is in both
    # A rank split of them into 3,666 and 24,342 patients leaves the test as it is, and nobody is in two.
    frame = build_studies(images.select("dataset", "study", "patient", "split", root=pl.lit("/")))
    shares = {"train": 24_342 / 28_008, "val": 3_666 / 28_008, "test": 0.0}
    split = assign_splits(group_patients(frame), rule="rank", fractions=shares)
    check_no_overlap(split)
    patients = dict(split.group_by("split").agg(pl.col("patient").n_unique()).iter_rows())
    assert patients == {"train": 24_342, "val": 3_666, "test": 2_797}
    assert split.filter(pl.col("split") == "test").height == 25_596


def test_open_i_reports(tmp_path: Path) -> None:
    reading = openi.read(lay_out("open-i", tmp_path))
    images = reading.images
    assert (len(images), images["study"].n_unique(), len(reading.rejected)) == (7_470, 3_851, 104)
    assert reading.warnings == []  # every heading is decided
    indexed = images.unique("study")
    lost = indexed["extra_undecided"] == ";".join(FINDINGS)
    assert lost.fill_null(False).equals(indexed["extra_mesh"].is_null() | (indexed["extra_mesh"] == "No Indexing"))
    assert all((indexed[name] == 1).sum() > 0 for name in FINDINGS)
    assert {reason for _, reason in reading.rejected} == {"the report names no image"}
    assert "kind" not in images.columns  # nothing says it: unknown
    texts = images.unique("study").select(
        both=pl.col("section_findings").is_not_null() & pl.col("section_impression").is_not_null(),
        mesh=pl.col("extra_mesh").is_not_null(),
    )
    assert texts["both"].sum() > 3_300
    assert texts["mesh"].sum() > 3_800
