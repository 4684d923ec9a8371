"""Sets that are folders of images: tuberculosis, ChestX6, COVID-QU-Ex, QaTa-COV19 v2, CXLSeg. No image is real."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from sources.archives.csv_files import write_csv
from sources.archives.pictures import compress, draw, save, turn

BIMCV = "sub-S0900{}_ses-E0900{}_run-1_bp-chest_vp-ap_dx.png"


def make_mask(seed: int, side: tuple[int, int] = (96, 96)) -> np.ndarray:
    """A disc, its place by the seed: 0 and 255."""
    down, across = np.mgrid[: side[0], : side[1]]
    return np.where(np.hypot(down - 40 - seed % 9, across - 50) < 20, 255, 0).astype(np.uint8)


def write_tb_chest(root: Path) -> Path:
    """Three of Shenzhen, two of Montgomery with masks and readings of the same names."""
    for name in ("CHNCXR_0001_0", "CHNCXR_0327_1", "CHNCXR_0328_1"):
        save(draw(len(name) + int(name[7:11])), root / "Shenzhen" / "images" / "images" / f"{name}.png")
    for name in ("MCUCXR_0001_0", "MCUCXR_0104_1"):
        save(draw(int(name[7:11])), root / "Montgomery" / "CXR_png" / f"{name}.png")
        save(make_mask(1), root / "Montgomery" / "ManualMask" / "leftMask" / f"{name}.png")
    rows = [
        ["CHNCXR_0001_0.png", "Male", "45", "normal"],
        ["CHNCXR_0327_1.png", "Female", "30", "left upper lobe PTB"],
        ["CHNCXR_0328_1.png", "Female", "", "normal"],  # the name says otherwise
    ]
    write_csv(root / "Shenzhen" / "shenzhen_metadata.csv", ["study_id", "sex", "age", "findings"], rows)
    return root


def write_chestx6(root: Path) -> Path:
    """16 images. Training holds copies of one test image (turned and mirrored) and of one of validation (JPEG), and
    validation one of the test: 13 are left."""
    places = [("train", "Normal", 8), ("train", "Emphysema", 1), ("val", "Normal", 2), ("test", "Tuberculosis", 2)]
    seed = 0
    for split, name, number in places:
        for place in range(number):
            save(draw(seed), root / "chest" / split / name / f"{name} ({place}).png")
            seed += 1
    first_val, first_test = 9, 11
    save(turn(draw(first_test), 4, mirror=True), root / "chest" / "train" / "Covid-19" / "aug_1.png")
    save(compress(draw(first_val)), root / "chest" / "train" / "Normal" / "copy.png")
    save(compress(draw(first_test + 1)), root / "chest" / "val" / "Tuberculosis" / "copy.png")
    return root


def write_covid_qu_ex(root: Path) -> Path:
    """Two images a split and class. One subject is in training and test; one mask is missing, one has no image."""
    home = root / "Lung Segmentation Data" / "Lung Segmentation Data"
    seed = 100
    for split in ("Train", "Val", "Test"):
        for name in ("COVID-19", "Non-COVID", "Normal"):
            for place in range(2):
                file = f"{name} ({place}).png"
                if name == "COVID-19" and place == 0:
                    file = BIMCV.format(3 if split == "Val" else 1, seed)
                save(draw(seed), home / split / name / "images" / file)
                save(make_mask(seed), home / split / name / "lung masks" / file)
                seed += 1
    (home / "Val" / "Normal" / "lung masks" / "Normal (1).png").rename(
        home / "Val" / "Normal" / "lung masks" / "other.png"
    )
    return root


def write_qata_cov19(root: Path) -> Path:
    """Three images for training, of which one shares its subject with the test, and two for the test."""
    home = root / "QaTa-COV19-v2"
    files = {
        "Train Set": [BIMCV.format(1, 1), BIMCV.format(2, 2), "covid_1.png"],
        "Test Set": [BIMCV.format(1, 7), "covid_9.png"],
    }
    seed = 200
    for folder, names in files.items():
        for name in names:
            save(draw(seed), home / folder / "Images" / name)
            save(make_mask(seed), home / folder / "Ground-truths" / f"mask_{name}")
            seed += 1
    return root


def write_cxl_seg(root: Path) -> Path:
    """Four images of three subjects with masks beside them, compressed as published."""
    rows = [
        ["dcm-1", "19000001", "80000001", "train"],
        ["dcm-2", "19000001", "80000002", "train"],
        ["dcm-3", "19000002", "80000003", "validate"],
        ["dcm-4", "19000003", "80000004", "test"],
    ]
    write_csv(root / "CXLSeg-split.csv", ["dicom_id", "subject_id", "study_id", "split"], rows)
    for number, (dicom, subject, study, _) in enumerate(rows):
        folder = root / "files" / subject / study
        save(draw(300 + number, (96, 112)), folder / f"{dicom}.jpg")
        save(make_mask(number, (96, 112)), folder / f"{dicom}-mask.jpg")
    return root
