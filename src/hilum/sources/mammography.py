"""The archives of mammograms (L 4)."""

from __future__ import annotations

from hilum.sources.description import Archive, ArchiveFile

MAMMOGRAPHY = {
    "vindr-mammo": Archive(
        title="VinDr-Mammo 1.0.0",
        holds="20,000 images of 5,000 four-view exams in Hanoi, with BI-RADS, density and boxes of findings",
        licence="PhysioNet Restricted Health Data License 1.5.0: no redistribution",
        apply="https://physionet.org/content/vindr-mammo/",
        files=(
            ArchiveFile("breast-level_annotations.csv", "images, BI-RADS, density, official split"),
            ArchiveFile("finding_annotations.csv", "findings and their boxes"),
        ),
        images="images/STUDY_ID/IMAGE_ID.dicom (or .png)",
        reads="breasts with assessment, density and ten kinds of finding, boxes, the official test; no table says "
        "whose an exam is",
        cite="Nguyen et al. 2023, Scientific Data 10:277; arXiv 2203.11205",
    ),
    "rsna-mammo": Archive(
        title="RSNA Screening Mammography Breast Cancer Detection",
        holds="54,706 images of 11,913 women at two sites, 492 breasts with cancer",
        licence="the competition's rules on Kaggle: no redistribution",
        apply="https://www.kaggle.com/competitions/rsna-breast-cancer-detection",
        files=(ArchiveFile("train.csv", "images and labels"),),
        images="train_images/PATIENT_ID/IMAGE_ID.dcm (or .png)",
        reads="breasts with cancer, biopsy, invasiveness, BI-RADS, density, implant; site and machine; all images of "
        "a view",
        cite="Carr et al. 2022, RSNA Screening Mammography Breast Cancer Detection, Kaggle",
    ),
    "cbis-ddsm": Archive(
        title="CBIS-DDSM",
        holds="scanned films of 753 cases of calcifications and 891 of masses, with descriptors, pathology and masks",
        licence="CC BY 3.0",
        apply="https://www.cancerimagingarchive.net/collection/cbis-ddsm/",
        files=(
            ArchiveFile("mass_case_description_train_set.csv", "masses for training"),
            ArchiveFile("mass_case_description_test_set.csv", "masses for the test"),
            ArchiveFile("calc_case_description_train_set.csv", "calcifications for training"),
            ArchiveFile("calc_case_description_test_set.csv", "calcifications for the test"),
        ),
        images="Mass-Training_P_00001_LEFT_CC/.../....dcm, as published or as the NBIA Data Retriever names them",
        reads="findings with shape, margin, morphology, distribution, pathology and mask; official splits by patient",
        cite="Lee et al. 2017, Scientific Data 4:170177",
    ),
    "embed": Archive(
        title="EMBED, open release",
        holds="480,323 images of 76,373 exams of 22,382 women in Atlanta over years, with findings and pathology",
        licence="EMBED agreement: not commercial; nothing trained on it is published without permission",
        apply="https://registry.opendata.aws/emory-breast-imaging-dataset-embed/",
        files=(
            ArchiveFile("EMBED_OpenData_clinical*.csv", "findings, pathology, people"),
            ArchiveFile("EMBED_OpenData_metadata*.csv", "files, views, boxes"),
        ),
        images="cohort_1/PATIENT/STUDY/....dcm, with or without images/ before it",
        reads="findings by their codes, pathology, boxes, years to cancer and last follow-up, race and ethnicity",
        cite="Jeong et al. 2023, Radiology: Artificial Intelligence 5(1):e220047",
    ),
    "csaw-cc": Archive(
        title="CSAW-CC",
        holds="98,788 images of screening exams in Stockholm over years, with and without cancer",
        licence="by agreement with Karolinska Institutet",
        apply="https://doi.org/10.5878/45vm-t798 (SND 2021-204-1)",
        files=(ArchiveFile("CSAW-CC*.csv", "images, exams, outcomes"),),
        images="PATIENT_20990909_L_CC_1.dcm, in the folder or one below it",
        reads="breasts with cancer, years to cancer and last follow-up by rad_timing",
        cite="Dembrower et al. 2019, Journal of Digital Imaging 33:408-413",
    ),
}
