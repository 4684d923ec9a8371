"""The named archives: chests for learning, chests for evaluation (`benchmarks.py`), breasts (`mammography.py`).

Imported for `--help`: no library is needed here.
"""

from __future__ import annotations

from hilum.sources.benchmarks import BENCHMARKS
from hilum.sources.description import Archive, ArchiveFile
from hilum.sources.mammography import MAMMOGRAPHY

# Globs of tables whose names hold a release -> the release known.
RELEASES = {
    "mimic-cxr-*-": "mimic-cxr-2.0.0-",
    "df_chexpert_plus_*": "df_chexpert_plus_240401",
    "PADCHEST_chest_x_ray_images_labels_160K*": "PADCHEST_chest_x_ray_images_labels_160K_01.02.19",
    "Data_Entry_2017*": "Data_Entry_2017",
    "EMBED_OpenData_clinical*": "EMBED_OpenData_clinical_reduced",
    "EMBED_OpenData_metadata*": "EMBED_OpenData_metadata_reduced",
    "CSAW-CC*": "CSAW-CC_breast_cancer_screening_data",
}


def name_table(pattern: str) -> str:
    """For messages: a table's name as published, for example train.csv or mimic-cxr-2.0.0-split.csv."""
    for part, release in RELEASES.items():
        pattern = pattern.replace(part, release)
    return pattern


ARCHIVES = {
    "mimic-cxr": Archive(
        title="MIMIC-CXR-JPG and MIMIC-CXR",
        holds="377,110 images, 227,835 studies, 65,379 patients of an emergency department in Boston; English reports",
        licence="PhysioNet Credentialed Health Data License 1.5.0: named persons, no redistribution",
        apply="https://physionet.org/content/mimic-cxr-jpg/ and https://physionet.org/content/mimic-cxr/",
        files=(
            ArchiveFile("mimic-cxr-*-metadata.csv|cxr-record-list.csv", "images, studies, subjects, views, days"),
            ArchiveFile("mimic-cxr-*-split.csv", "official split (of MIMIC-CXR-JPG)"),
            ArchiveFile("mimic-cxr-*-chexpert.csv", "findings by the CheXpert labeler (of MIMIC-CXR-JPG)"),
            ArchiveFile("mimic-cxr-*-negbio.csv", "findings by NegBio (--labels negbio)", needed=False),
            ArchiveFile("mimic-cxr-reports.zip", "reports, unless unpacked into files/", needed=False),
        ),
        images="files/p10/p10000032/s50414267/DICOM_ID.jpg (or .dcm); reports files/p10/p10000032/s50414267.txt",
        reads="views by ViewPosition, official split, findings, days since a patient's first study, report sections",
        cite="Johnson et al. 2019, Scientific Data 6:317; arXiv 1901.07042",
    ),
    "chexpert": Archive(
        title="CheXpert v1.0",
        holds="223,414 images, 187,641 studies, 64,540 patients for training at Stanford; validation 234 images",
        licence="Stanford University Dataset Research Use Agreement: research, no redistribution",
        apply="https://stanfordaimi.azurewebsites.net/datasets/8cbd9ed4-2eb9-4565-affc-111cf4f7ebe2",
        files=(
            ArchiveFile("train.csv", "images and findings for training"),
            ArchiveFile("valid.csv", "images and radiologists' findings for validation", needed=False),
            ArchiveFile("test.csv|test_labels.csv|groundtruth.csv", "the test set's findings", needed=False),
        ),
        images="train/patient00001/study1/view1_frontal.jpg, with or without CheXpert-v1.0/ or CheXpert-v1.0-small/",
        reads="views by Frontal/Lateral, findings with uncertain and blank states, sex, age; there are no reports",
        cite="Irvin et al. 2019, AAAI; arXiv 1901.07031",
        id_space="chexpert",
    ),
    "chexpert-plus": Archive(
        title="CheXpert Plus",
        holds="223,462 images, 187,711 studies, 64,725 patients: CheXpert with reports, PNG and DICOM",
        licence="Stanford University Dataset Research Use Agreement: research, no redistribution",
        apply="https://stanfordaimi.azurewebsites.net/datasets/5158c524-d3ab-4e02-96e9-6ee9efc110a1",
        files=(
            ArchiveFile("df_chexpert_plus_*.csv", "images, patients, reports with sections, split"),
            ArchiveFile("impression_fixed.json", "findings read from impressions", needed=False),
            ArchiveFile("report_fixed.json", "findings read from whole reports (--labels report)", needed=False),
            ArchiveFile(
                "findings_fixed.json", "findings read from findings sections (--labels findings)", needed=False
            ),
        ),
        images="PNG/train/patient00001/study1/view1_frontal.png, train/... as .png or .jpg, or DICOM/train/...",
        reads="views, findings of one JSON file, sections, split; patients have the names they have in CheXpert",
        cite="Chambon et al. 2024; arXiv 2405.19538",
        id_space="chexpert",
    ),
    "padchest": Archive(
        title="PadChest",
        holds="160,861 images, 109,931 studies, 67,625 patients of a hospital in Alicante; Spanish reports as stems",
        licence="PadChest Dataset Research Use Agreement: research, no redistribution",
        apply="https://bimcv.cipf.es/bimcv-projects/padchest/",
        files=(ArchiveFile("PADCHEST_chest_x_ray_images_labels_160K*.csv", "images, studies, labels, reports"),),
        images="0/IMAGE_ID.png to 54/IMAGE_ID.png, the folder being ImageDir, or all in one folder",
        reads="views by Projection, labels and who gave them, days, age by year of birth, reports; there is no split",
        cite="Bustos et al. 2020, Medical Image Analysis 66:101797; arXiv 1901.07441",
    ),
    "chestxray14": Archive(
        title="ChestX-ray14 (NIH)",
        holds="112,120 frontal images of 30,805 patients; fourteen labels read from reports that are not published",
        licence="no restriction on use; name the NIH Clinical Center, link the download, cite the paper",
        apply="https://nihcc.app.box.com/v/ChestXray-NIHCC",
        files=(
            ArchiveFile("Data_Entry_2017*.csv", "images, patients, labels, views"),
            ArchiveFile("train_val_list.txt", "images for training and validation"),
            ArchiveFile("test_list.txt", "images for the test"),
        ),
        images="images_001/images/00000001_000.png to images_012/images/..., or images/00000001_000.png",
        reads="every image as a study; eleven of the fourteen findings; task nih: its own fourteen labels; "
        "test_list.txt as the test split",
        cite="Wang et al. 2017, CVPR; arXiv 1705.02315",
    ),
    "open-i": Archive(
        title="Open-i, Indiana University chest X-rays",
        holds="7,470 images and 3,955 reports, one of each patient; English, names and numbers blotted out as XXXX",
        licence="CC BY-NC-ND 4.0",
        apply="https://openi.nlm.nih.gov/faq",
        files=(ArchiveFile("ecgen-radiology/|NLMCXR_reports.tgz", "one XML for each report"),),
        images="NLMCXR_png/CXR1_1_IM-0001-3001.png",
        reads="sections, findings by MeSH terms; no file says which image is frontal, so that all views are unknown",
        cite="Demner-Fushman et al. 2016, JAMIA 23(2):304-310",
    ),
}
ARCHIVES |= BENCHMARKS | MAMMOGRAPHY
