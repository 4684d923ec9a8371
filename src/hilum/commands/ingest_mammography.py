"""Archives of mammograms of `hilum ingest`, one function for each."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from hilum.commands.ingest_archive import ingest_archive
from hilum.identifiers import Naming


def ingest_vindr_mammo(
    root: Positional[Path],
    out: Path | None = None,
    check: bool = False,
    own_splits: bool = False,
    naming: Annotated[Naming, arg(name="")] = Naming(),
) -> int:
    """VinDr-Mammo: four-view exams with BI-RADS, density and boxes of findings.

    Args:
        root: Folder of the download, with breast-level_annotations.csv and finding_annotations.csv.
        out: Study table to write (Parquet).
        check: Only say what the download lacks and which counts are not the published ones, within seconds.
        own_splits: Leave the official split out; `hilum cache` draws one.
        naming: What patients and studies are called.
    """
    return ingest_archive("vindr-mammo", root, out, check, naming, own_splits=own_splits)


def ingest_rsna_mammo(
    root: Positional[Path],
    out: Path | None = None,
    check: bool = False,
    naming: Annotated[Naming, arg(name="")] = Naming(),
) -> int:
    """RSNA's screening mammograms (Kaggle 2022): cancer by breast, two sites; no official split.

    Args:
        root: Folder of the download, with train.csv.
        out: Study table to write (Parquet).
        check: Only say what the download lacks and which counts are not the published ones, within seconds.
        naming: What patients and studies are called.
    """
    return ingest_archive("rsna-mammo", root, out, check, naming)


def ingest_cbis_ddsm(
    root: Positional[Path],
    out: Path | None = None,
    check: bool = False,
    own_splits: bool = False,
    naming: Annotated[Naming, arg(name="")] = Naming(),
) -> int:
    """CBIS-DDSM: scanned films with descriptors, pathology and masks of their findings.

    Args:
        root: Folder of the download, with the four case descriptions.
        out: Study table to write (Parquet).
        check: Only say what the download lacks and which counts are not the published ones, within seconds.
        own_splits: Leave the official splits out; `hilum cache` draws one.
        naming: What patients and studies are called.
    """
    return ingest_archive("cbis-ddsm", root, out, check, naming, own_splits=own_splits)


def ingest_embed(
    root: Positional[Path],
    out: Path | None = None,
    check: bool = False,
    spot: bool = False,
    synthetic: bool = False,
    naming: Annotated[Naming, arg(name="")] = Naming(),
) -> int:
    """EMBED's open release: findings, pathology and years to cancer of exams over years.

    Args:
        root: Folder of the download, with the clinical and metadata tables.
        out: Study table to write (Parquet).
        check: Only say what the download lacks and which counts are not the published ones, within seconds.
        spot: Also take spot compression and magnification views.
        synthetic: Also take 2D images computed from tomosyntheses.
        naming: What patients and studies are called.
    """
    return ingest_archive("embed", root, out, check, naming, spot=spot, synthetic=synthetic)


def ingest_csaw_cc(
    root: Positional[Path],
    out: Path | None = None,
    check: bool = False,
    naming: Annotated[Naming, arg(name="")] = Naming(),
) -> int:
    """CSAW-CC: screening exams in Stockholm, with years to cancer.

    Args:
        root: Folder of the download, with CSAW-CC_breast_cancer_screening_data.csv.
        out: Study table to write (Parquet).
        check: Only say what the download lacks and which counts are not the published ones, within seconds.
        naming: What patients and studies are called.
    """
    return ingest_archive("csaw-cc", root, out, check, naming)
