"""The archives that PaCX-MAE learns from beside CheXpert, and is evaluated on (P 3.7, P 4)."""

from __future__ import annotations

from hilum.sources.description import Archive, ArchiveFile

_CREDENTIALED = "PhysioNet Credentialed Health Data License 1.5.0: named persons, no redistribution"
_KAGGLE = "as stated on Kaggle, and by the sets it is put together from"
_MIMIC = "mimic-cxr"  # whose patients they are

BENCHMARKS = {
    "symile-mimic": Archive(
        title="Symile-MIMIC 1.0.0",
        holds="11,622 admissions of MIMIC with an X-ray, an ECG and up to 50 laboratory values",
        licence=_CREDENTIALED,
        apply="https://physionet.org/content/symile-mimic/",
        files=(
            ArchiveFile("train.csv", "10,000 admissions for training"),
            ArchiveFile("val.csv", "750 for validation"),
            ArchiveFile("val_retrieval.csv", "their queries, each with nine other candidates"),
            ArchiveFile("test.csv", "464 queries for the test, each with nine other candidates"),
            ArchiveFile("data_npy/", "arrays of X-rays, ECGs, laboratory values and admissions"),
        ),
        images="data_npy/train/cxr_train.npy: rows of (3, 320, 320) float32",
        reads="X-rays as 8-bit grey, references to ECGs and laboratory arrays, raw laboratory values, six findings, "
        "the official split, candidates of queries",
        cite="Saporta et al. 2024, NeurIPS; doi 10.13026/3vvj-s428",
        id_space=_MIMIC,
    ),
    "mimic-triples": Archive(
        title="X-ray, ECG and laboratory values around admissions of MIMIC",
        holds="what Symile-MIMIC holds, built by time from the tables of MIMIC-IV, MIMIC-IV-ECG and MIMIC-CXR-JPG",
        licence=_CREDENTIALED,
        apply="https://physionet.org/content/mimiciv/, .../mimic-iv-ecg/ and .../mimic-cxr-jpg/",
        files=(
            ArchiveFile("admissions.csv", "admissions (MIMIC-IV, hosp)"),
            ArchiveFile("labevents.csv", "laboratory values (MIMIC-IV, hosp)"),
            ArchiveFile("record_list.csv", "ECGs (MIMIC-IV-ECG)"),
            ArchiveFile("mimic-cxr-*-metadata.csv", "X-rays, views, times (MIMIC-CXR-JPG)"),
            ArchiveFile("mimic-cxr-*-chexpert.csv", "findings by the CheXpert labeler (MIMIC-CXR-JPG)"),
        ),
        images="files/p10/... beside MIMIC-CXR-JPG's tables, in one folder with (links to) hosp and mimic-iv-ecg",
        reads="per admission the earliest frontal X-ray, ECG and value of each laboratory test in their windows",
        cite="Johnson et al. 2023, Scientific Data 10:1; the rule is Symile-MIMIC's (Saporta et al. 2024)",
        id_space=_MIMIC,
    ),
    "medmod": Archive(
        title="MedMod",
        holds="intensive-care stays of MIMIC-IV with an X-ray, 25 phenotypes and mortality",
        licence=_CREDENTIALED,
        apply="https://github.com/nyuad-cai/MedMod, which extracts the tables from MIMIC-IV",
        files=(
            ArchiveFile("all_stays.csv", "stays, their times and mortality (of MedMod's extraction)"),
            ArchiveFile("phenotype_labels.csv", "phenotypes, in the order of stay_id (of MedMod's extraction)"),
            ArchiveFile("mimic-cxr-*-metadata.csv", "X-rays and times (MIMIC-CXR-JPG)"),
        ),
        images="files/p10/p10000032/s50414267/DICOM_ID.jpg beside MIMIC-CXR-JPG's table",
        reads="the earliest X-ray of each stay; tasks phenotype and mortality; --symile leaves out patients of Symile",
        cite="Elsharief et al. 2025, CHIL; Harutyunyan et al. 2019, Scientific Data 6:96",
        id_space=_MIMIC,
    ),
    "chexchonet": Archive(
        title="CheXchoNet 1.0.0",
        holds="71,589 images of 24,689 patients in New York, with what echocardiography found",
        licence="PhysioNet Restricted Health Data License 1.5.0: no redistribution",
        apply="https://physionet.org/content/chexchonet/",
        files=(ArchiveFile("metadata.csv", "images, patients, measurements, labels"),),
        images="images/NAME as in cxr_filename, or all in one folder",
        reads="tasks echo (six labels), echo:composite_slvh_dlv (as published); ivsd, lvpwd, lvidd as extras",
        cite="Bhave et al. 2024, European Heart Journal; doi 10.13026/kp08-ws25",
    ),
    "vindr-cxr": Archive(
        title="VinDr-CXR 1.0.0",
        holds="18,000 PA images of two hospitals in Hanoi, each read by three radiologists, of the test by five",
        licence=_CREDENTIALED,
        apply="https://physionet.org/content/vindr-cxr/",
        files=(
            ArchiveFile("image_labels_train.csv", "labels for training, a row for each image and reader"),
            ArchiveFile("image_labels_test.csv", "labels for the test, consensus"),
        ),
        images="train/IMAGE_ID.dicom and test/IMAGE_ID.dicom, or .png",
        reads="task vindr: 27 labels, present where half of the readers say so; no table says whose an image is",
        cite="Nguyen et al. 2022, Scientific Data 9:429; arXiv 2012.15029",
    ),
    "tb-chest": Archive(
        title="Tuberculosis sets of Shenzhen and Montgomery County",
        holds="662 and 138 frontal images of as many patients",
        licence="free for research; name the source and cite the paper",
        apply="https://lhncbc.nlm.nih.gov/LHC-downloads/downloads.html#tuberculosis-image-data-sets",
        files=(
            ArchiveFile("shenzhen_metadata.csv", "sex and age", needed=False),
            ArchiveFile("montgomery_metadata.csv", "sex and age", needed=False),
        ),
        images="CHNCXR_0001_0.png and MCUCXR_0001_0.png, in any folder",
        reads="label and patient from the file name; task extra_tb",
        cite="Jaeger et al. 2014, Quantitative Imaging in Medicine and Surgery 4(6):475-477",
    ),
    "chestx6": Archive(
        title="ChestX6",
        holds="18,036 images of six classes, put together from other sets, copies among them; no patients",
        licence=_KAGGLE,
        apply="https://www.kaggle.com/datasets, 'Chest X-ray 6 classes'",
        files=(),
        images="train/Covid-19/..., val/..., test/..., up to three folders below",
        reads="class and split from the folders, task extra_class; copies of later splits are left out of earlier ones",
        cite="none known",
    ),
    "cxl-seg": Archive(
        title="CXLSeg 1.0.0",
        holds="243,324 frontal images of MIMIC-CXR with lung masks made by a model",
        licence=_CREDENTIALED,
        apply="https://physionet.org/content/chest-x-ray-segmentation/",
        files=(ArchiveFile("CXLSeg-split.csv", "images, subjects, official split"),),
        images="files/SUBJECT/STUDY/DICOM_ID.jpg and DICOM_ID-mask.jpg",
        reads="every image as a study with its mask, the official split",
        cite="Indeewara et al. 2023; doi 10.13026/9cy4-f535",
        id_space=_MIMIC,
    ),
    "covid-qu-ex": Archive(
        title="COVID-QU-Ex",
        holds="33,920 images of three classes with lung masks, put together from other sets",
        licence=_KAGGLE,
        apply="https://www.kaggle.com/datasets/anasmohammedtahir/covidqu",
        files=(),
        images="Lung Segmentation Data/.../Train/COVID-19/images/NAME and .../lung masks/NAME",
        reads="images with masks, official split, subject where the name holds one; task extra_class",
        cite="Tahir et al. 2021, Computers in Biology and Medicine 139:105002",
        id_space="bimcv",
    ),
    "qata-cov19": Archive(
        title="QaTa-COV19 v2",
        holds="9,258 images with masks of COVID-19 infection, put together from other sets",
        licence=_KAGGLE,
        apply="https://www.kaggle.com/datasets/aysendegerli/qatacov19-dataset",
        files=(),
        images="Train Set/Images/NAME and Train Set/Ground-truths/mask_NAME, likewise Test Set",
        reads="images with masks, official test, subject where the name holds one",
        cite="Degerli et al. 2022, ICIP; arXiv 2202.10185",
        id_space="bimcv",
    ),
}
