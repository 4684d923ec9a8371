"""ChestX-ray14 (Wang et al. 2017), in the release of 2017 (ages like 411, a comma at line ends) and that of 2020.

No row is real: patients have numbers above those the archive uses.
"""

from __future__ import annotations

from pathlib import Path

from sources.archives.csv_files import parse_rows, write_csv
from sources.archives.pixels import write_image

_SIZES = ["OriginalImage[Width", "Height]", "OriginalImagePixelSpacing[x", "y]"]  # the archive does not quote commas
_IMAGES = parse_rows(
    """
    image            | labels                              | follow-up | patient | age | sex | view | folder
    00090011_000.png | Cardiomegaly                        | 0         | 90011   | 58  | M   | PA   | images_001
    00090011_001.png | Cardiomegaly;Emphysema              | 1         | 90011   | 58  | M   | PA   | images_001
    00090011_002.png | Effusion;Infiltration               | 2         | 90011   | 59  | M   | AP   | images_001
    00090012_000.png | No Finding                          | 0         | 90012   | 81  | F   | AP   | images_001
    00090013_000.png | Hernia                              | 0         | 90013   | 411 | M   | PA   | images_002
    00090013_003.png | Mass;Nodule;Pleural_Thickening      | 3         | 90013   | 62  | M   | PA   | images_002
    00090014_000.png | Atelectasis;Consolidation;Pneumonia | 0         | 90014   | 7   | F   | AP   | images_002
    00090014_001.png | No Finding                          | 1         | 90014   | 8   | F   | PA   | images_012
    00090015_000.png | Edema;Fibrosis;Pneumothorax         | 0         | 90015   | 30  | F   | PA   | images_012
    """
)[1:]
_TEST_PATIENTS = ("90014", "90015")


def write_chestxray14(root: Path, *, release: int = 2017) -> Path:
    """9 studies of 5 patients with an image each, the last three in the test list; returns the folder to ingest.

    2017: Data_Entry_2017.csv and folders images_001/images, ...; 2020: Data_Entry_2017_v2020.csv, where the wrong age
    is corrected and "Patient Gender" has become "Patient Sex", and one folder images.
    """
    later = release == 2020
    header = ["Image Index", "Finding Labels", "Follow-up #", "Patient ID", "Patient Age"]
    header += ["Patient Sex" if later else "Patient Gender", "View Position", *_SIZES]
    rows = []
    for image, labels, follow_up, patient, age, sex, view, folder in _IMAGES:
        labels = labels.replace(";", "|")
        age = "41" if later and age == "411" else age
        rows.append([image, labels, follow_up, patient, age, sex, view, "2682", "2749", "0.143", "0.143"])
        write_image(root / ("images" if later else f"{folder}/images") / image)
    if later:
        write_csv(root / "Data_Entry_2017_v2020.csv", header, rows)
    else:
        write_csv(root / "Data_Entry_2017.csv", [*header, ""], [[*row, ""] for row in rows])
    lists = {"train_val_list.txt": [], "test_list.txt": []}
    for image, _, _, patient, *_ in _IMAGES:
        lists["test_list.txt" if patient in _TEST_PATIENTS else "train_val_list.txt"].append(image)
    for name, images in lists.items():
        (root / name).write_text("\n".join(images))  # no line end after the last, as published
    return root
