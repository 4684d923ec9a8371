"""Archives of `hilum ingest` that PaCX-MAE learns from and is evaluated on, one function for each."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from annotated_types import Ge
from tyro.conf import Positional, arg

from hilum.commands.ingest_archive import ingest_archive
from hilum.identifiers import Naming


def ingest_symile_mimic(
    root: Positional[Path],
    out: Path | None = None,
    check: bool = False,
    naming: Annotated[Naming, arg(name="")] = Naming(),
) -> int:
    """Symile-MIMIC: X-rays, ECGs and laboratory values of admissions, from its tables and arrays.

    Args:
        root: Folder of the download, with train.csv and data_npy.
        out: Study table to write (Parquet).
        check: Only say what the download lacks, within seconds.
        naming: What patients and studies are called; patients as in mimic-cxr.
    """
    return ingest_archive("symile-mimic", root, out, check, naming)


def ingest_mimic_triples(
    root: Positional[Path],
    out: Path | None = None,
    check: bool = False,
    image_hours: tuple[float, float] = (24.0, 72.0),
    ecg_hours: tuple[float, float] = (-24.0, 24.0),
    labs_hours: tuple[float, float] = (-24.0, 24.0),
    labels: Literal["chexpert", "negbio", "none"] = "chexpert",
    naming: Annotated[Naming, arg(name="")] = Naming(),
) -> int:
    """X-ray, ECG and laboratory values around admissions of MIMIC, built by time as Symile-MIMIC was.

    Args:
        root: Folder that holds, or links to, folders with the tables of MIMIC-IV, MIMIC-IV-ECG and MIMIC-CXR-JPG.
        out: Study table to write (Parquet).
        check: Only say what the download lacks; laboratory values are not looked at.
        image_hours: Hours since admission: the earliest X-ray after the first and up to the second is taken.
        ecg_hours: Hours since admission within which the earliest ECG is taken, both included.
        labs_hours: Hours since admission within which the earliest value of each test is taken, both included.
        labels: Labeler whose findings are read.
        naming: What patients and studies are called; patients as in mimic-cxr.
    """
    from hilum.sources.hours import Window, Windows

    windows = Windows(Window(*image_hours, after=True), Window(*ecg_hours), Window(*labs_hours))
    return ingest_archive("mimic-triples", root, out, check, naming, windows=windows, labels=labels)


def ingest_medmod(
    root: Positional[Path],
    out: Path | None = None,
    check: bool = False,
    symile: Path | None = None,
    naming: Annotated[Naming, arg(name="")] = Naming(),
) -> int:
    """MedMod: intensive-care stays with an X-ray, 25 phenotypes and mortality.

    Args:
        root: Folder with all_stays.csv, phenotype_labels.csv and MIMIC-CXR-JPG's tables, or folders of them.
        out: Study table to write (Parquet).
        check: Only say what the download lacks, within seconds.
        symile: Folder of Symile-MIMIC, whose training patients are left out, all their stays.
        naming: What patients and studies are called; patients as in mimic-cxr.
    """
    return ingest_archive("medmod", root, out, check, naming, symile=symile)


def ingest_chexchonet(
    root: Positional[Path],
    out: Path | None = None,
    check: bool = False,
    naming: Annotated[Naming, arg(name="")] = Naming(),
) -> int:
    """CheXchoNet: X-rays with labels and measurements of echocardiography.

    Args:
        root: Folder of the download, with metadata.csv.
        out: Study table to write (Parquet).
        check: Only say what the download lacks, within seconds.
        naming: What patients and studies are called.
    """
    return ingest_archive("chexchonet", root, out, check, naming)


def ingest_vindr_cxr(
    root: Positional[Path],
    out: Path | None = None,
    check: bool = False,
    min_positives: Annotated[int, Ge(0)] = 0,
    naming: Annotated[Naming, arg(name="")] = Naming(),
) -> int:
    """VinDr-CXR: 27 labels by the vote of three readers, and the official test.

    Args:
        root: Folder of the download, with image_labels_train.csv and image_labels_test.csv.
        out: Study table to write (Parquet).
        check: Only say what the download lacks, within seconds.
        min_positives: Training images that a label must have to be kept; 50 leaves the published 19 of 27.
        naming: What patients and studies are called.
    """
    return ingest_archive("vindr-cxr", root, out, check, naming, min_positives=min_positives)


def ingest_tb_chest(
    root: Positional[Path],
    out: Path | None = None,
    check: bool = False,
    naming: Annotated[Naming, arg(name="")] = Naming(),
) -> int:
    """Tuberculosis sets of Shenzhen and Montgomery County, from the names of their files.

    Args:
        root: Folder with the images of one or both.
        out: Study table to write (Parquet).
        check: Only say what the download lacks, within seconds.
        naming: What patients and studies are called.
    """
    return ingest_archive("tb-chest", root, out, check, naming)


def ingest_chestx6(
    root: Positional[Path],
    out: Path | None = None,
    check: bool = False,
    naming: Annotated[Naming, arg(name="")] = Naming(),
) -> int:
    """ChestX6: six classes in folders, without the copies of one split in another. Reads all images.

    Args:
        root: Folder of the download, with train, val and test.
        out: Study table to write (Parquet).
        check: Only say what the download lacks, within seconds.
        naming: What patients and studies are called.
    """
    return ingest_archive("chestx6", root, out, check, naming)


def ingest_cxl_seg(
    root: Positional[Path],
    out: Path | None = None,
    check: bool = False,
    own_splits: bool = False,
    naming: Annotated[Naming, arg(name="")] = Naming(),
) -> int:
    """CXLSeg: frontal images of MIMIC-CXR with lung masks.

    Args:
        root: Folder of the download, with CXLSeg-split.csv.
        out: Study table to write (Parquet).
        check: Only say what the download lacks, within seconds.
        own_splits: Leave the official split out; `hilum cache` draws one.
        naming: What patients and studies are called; patients as in mimic-cxr.
    """
    return ingest_archive("cxl-seg", root, out, check, naming, own_splits=own_splits)


def ingest_covid_qu_ex(
    root: Positional[Path],
    out: Path | None = None,
    check: bool = False,
    naming: Annotated[Naming, arg(name="")] = Naming(),
) -> int:
    """COVID-QU-Ex: three classes with lung masks, without persons of one split in another. Reads all images.

    Args:
        root: Folder of the download.
        out: Study table to write (Parquet).
        check: Only say what the download lacks, within seconds.
        naming: What patients and studies are called.
    """
    return ingest_archive("covid-qu-ex", root, out, check, naming)


def ingest_qata_cov19(
    root: Positional[Path],
    out: Path | None = None,
    check: bool = False,
    naming: Annotated[Naming, arg(name="")] = Naming(),
) -> int:
    """QaTa-COV19 v2: masks of COVID-19 infection, without persons of the test in training. Reads all images.

    Args:
        root: Folder of the download, with Train Set and Test Set.
        out: Study table to write (Parquet).
        check: Only say what the download lacks, within seconds.
        naming: What patients and studies are called.
    """
    return ingest_archive("qata-cov19", root, out, check, naming)
