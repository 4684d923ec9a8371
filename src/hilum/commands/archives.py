"""The archives that `hilum ingest` knows by name: what of each is its own, beside the flags that all have."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

from annotated_types import Ge

from hilum.commands.ingest_archive import archive

Labeler = Literal["chexpert", "negbio", "none"]
_COUNTED = "Only say what the download lacks and which counts are not the published ones, within seconds."


@archive("Folder of the download, with its tables and the folder `files`.")
def mimic_cxr(labels: Labeler = "chexpert", own_splits: bool = False) -> dict[str, Any]:
    """MIMIC-CXR-JPG, or MIMIC-CXR (DICOM): tables, and reports where they are there.

    Args:
        labels: Whose findings: the CheXpert labeler's, NegBio's, or none.
        own_splits: Leave the official split out; `hilum cache` draws one.
    """
    return {"labels": labels, "own_splits": own_splits}


@archive("Folder of the download, with train.csv.")
def chexpert(own_splits: bool = False) -> dict[str, Any]:
    """CheXpert v1: train.csv, valid.csv and the test set's labels.

    Args:
        own_splits: Leave the official split out; `hilum cache` draws one.
    """
    return {"own_splits": own_splits}


@archive("Folder of the download, with df_chexpert_plus_*.csv.")
def chexpert_plus(
    labels: Literal["auto", "impression", "findings", "report", "none"] = "auto", own_splits: bool = False
) -> dict[str, Any]:
    """CheXpert Plus: CheXpert with reports and their sections.

    Args:
        labels: Text that findings were read from; auto: impression, else report, else findings, as files are there.
        own_splits: Leave the official split out; `hilum cache` draws one.
    """
    return {"labels": labels, "own_splits": own_splits}


@archive("Folder of the download, with PADCHEST_chest_x_ray_images_labels_160K_*.csv.")
def padchest(label_map: Path | None = None, conflict: Literal["first", "last"] | None = None) -> dict[str, Any]:
    """PadChest: views, labels and Spanish reports; it has no official split.

    Args:
        label_map: CSV with a published map of the labels to findings, in the place of Hilum's own.
        conflict: Which row of that map counts for a label that has two findings.
    """
    return {"label_map": label_map, "conflict": conflict}


@archive("Folder of the download, with Data_Entry_2017*.csv, train_val_list.txt and test_list.txt.")
def chestxray14(own_splits: bool = False) -> dict[str, Any]:
    """ChestX-ray14 of the NIH: frontal images, eleven of the findings, the official test list.

    Args:
        own_splits: Leave the official lists out; `hilum cache` draws a split.
    """
    return {"own_splits": own_splits}


@archive("Folder of the download, with ecgen-radiology (or NLMCXR_reports.tgz) and NLMCXR_png.")
def open_i() -> dict[str, Any]:
    """Open-i's Indiana University collection: reports, findings by MeSH terms, images of unknown view."""
    return {}


@archive("Folder of the download, with train.csv and data_npy.")
def symile_mimic() -> dict[str, Any]:
    """Symile-MIMIC: X-rays, ECGs and laboratory values of admissions, from its tables and arrays."""
    return {}


@archive(
    "Folder that holds, or links to, folders with the tables of MIMIC-IV, MIMIC-IV-ECG and MIMIC-CXR-JPG.",
    check="Only say what the download lacks; laboratory values are not looked at.",
)
def mimic_triples(
    image_hours: tuple[float, float] = (24.0, 72.0),
    ecg_hours: tuple[float, float] = (-24.0, 24.0),
    labs_hours: tuple[float, float] = (-24.0, 24.0),
    labels: Labeler = "chexpert",
) -> dict[str, Any]:
    """X-ray, ECG and laboratory values around admissions of MIMIC, built by time as Symile-MIMIC was.

    Args:
        image_hours: Hours since admission: the earliest X-ray after the first and up to the second is taken.
        ecg_hours: Hours since admission within which the earliest ECG is taken, both included.
        labs_hours: Hours since admission within which the earliest value of each test is taken, both included.
        labels: Labeler whose findings are read.
    """
    from hilum.sources.hours import Window, Windows

    windows = Windows(Window(*image_hours, after=True), Window(*ecg_hours), Window(*labs_hours))
    return {"windows": windows, "labels": labels}


@archive("Folder with all_stays.csv, phenotype_labels.csv and MIMIC-CXR-JPG's tables, or folders of them.")
def medmod(symile: Path | None = None) -> dict[str, Any]:
    """MedMod: intensive-care stays with an X-ray, 25 phenotypes and mortality.

    Args:
        symile: Folder of Symile-MIMIC, whose training patients are left out, all their stays.
    """
    return {"symile": symile}


@archive("Folder of the download, with metadata.csv.")
def chexchonet() -> dict[str, Any]:
    """CheXchoNet: X-rays with labels and measurements of echocardiography."""
    return {}


@archive("Folder of the download, with image_labels_train.csv and image_labels_test.csv.")
def vindr_cxr(min_positives: Annotated[int, Ge(0)] = 0) -> dict[str, Any]:
    """VinDr-CXR: 27 labels by the vote of three readers, and the official test.

    Args:
        min_positives: Training images that a label must have to be kept; 50 leaves the published 19 of 27.
    """
    return {"min_positives": min_positives}


@archive("Folder with the images of one or both.")
def tb_chest() -> dict[str, Any]:
    """Tuberculosis sets of Shenzhen and Montgomery County, from the names of their files."""
    return {}


@archive("Folder of the download, with train, val and test.")
def chestx6() -> dict[str, Any]:
    """ChestX6: six classes in folders, without the copies of one split in another. Reads all images."""
    return {}


@archive("Folder of the download, with CXLSeg-split.csv.")
def cxl_seg(own_splits: bool = False) -> dict[str, Any]:
    """CXLSeg: frontal images of MIMIC-CXR with lung masks.

    Args:
        own_splits: Leave the official split out; `hilum cache` draws one.
    """
    return {"own_splits": own_splits}


@archive("Folder of the download.")
def covid_qu_ex() -> dict[str, Any]:
    """COVID-QU-Ex: three classes with lung masks, without persons of one split in another. Reads all images."""
    return {}


@archive("Folder of the download, with Train Set and Test Set.")
def qata_cov19() -> dict[str, Any]:
    """QaTa-COV19 v2: masks of COVID-19 infection, without persons of the test in training. Reads all images."""
    return {}


@archive("Folder of the download, with breast-level_annotations.csv and finding_annotations.csv.", check=_COUNTED)
def vindr_mammo(own_splits: bool = False) -> dict[str, Any]:
    """VinDr-Mammo: four-view exams with BI-RADS, density and boxes of findings.

    Args:
        own_splits: Leave the official split out; `hilum cache` draws one.
    """
    return {"own_splits": own_splits}


@archive("Folder of the download, with train.csv.", check=_COUNTED)
def rsna_mammo() -> dict[str, Any]:
    """RSNA's screening mammograms (Kaggle 2022): cancer by breast, two sites; no official split."""
    return {}


@archive("Folder of the download, with the four case descriptions.", check=_COUNTED)
def cbis_ddsm(own_splits: bool = False) -> dict[str, Any]:
    """CBIS-DDSM: scanned films with descriptors, pathology and masks of their findings.

    Args:
        own_splits: Leave the official splits out; `hilum cache` draws one.
    """
    return {"own_splits": own_splits}


@archive("Folder of the download, with the clinical and metadata tables.", check=_COUNTED)
def embed(spot: bool = False, synthetic: bool = False) -> dict[str, Any]:
    """EMBED's open release: findings, pathology and years to cancer of exams over years.

    Args:
        spot: Also take spot compression and magnification views.
        synthetic: Also take 2D images computed from tomosyntheses.
    """
    return {"spot": spot, "synthetic": synthetic}


@archive("Folder of the download, with CSAW-CC_breast_cancer_screening_data.csv.", check=_COUNTED)
def csaw_cc() -> dict[str, Any]:
    """CSAW-CC: screening exams in Stockholm, with years to cancer."""
    return {}


COMMANDS: dict[str, Callable[..., int]] = {
    command.__name__: command
    for command in (
        mimic_cxr,
        chexpert,
        chexpert_plus,
        padchest,
        chestxray14,
        open_i,
        symile_mimic,
        mimic_triples,
        medmod,
        chexchonet,
        vindr_cxr,
        tb_chest,
        chestx6,
        cxl_seg,
        covid_qu_ex,
        qata_cov19,
        vindr_mammo,
        rsna_mammo,
        cbis_ddsm,
        embed,
        csaw_cc,
    )
}
