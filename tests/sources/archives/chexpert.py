"""CheXpert (Irvin et al. 2019): train.csv and valid.csv, with paths that begin with the archive's own name.

No row is real: patients have numbers above those the archive uses.
"""

from __future__ import annotations

from pathlib import Path

from sources.archives.csv_files import parse_rows, write_csv
from sources.archives.pixels import write_image

FINDING_COLUMNS = [
    "No Finding",
    "Enlarged Cardiomediastinum",
    "Cardiomegaly",
    "Lung Opacity",
    "Lung Lesion",
    "Edema",
    "Consolidation",
    "Pneumonia",
    "Atelectasis",
    "Pneumothorax",
    "Pleural Effusion",
    "Pleural Other",
    "Fracture",
    "Support Devices",
]
COLUMNS = ["Path", "Sex", "Age", "Frontal/Lateral", "AP/PA", *FINDING_COLUMNS]

# Studies are numbered anew for every patient; the states of a study stand in each of its rows. A few frontal images
# have LL in AP/PA, and studies do not come in order, both as in the archive.
_TRAIN = parse_rows(
    """
    image                                  | sex     | age | states
    patient90002/study1/view1_frontal.jpg  | Male    | 55  | Edema -1.0, Pneumonia -1.0, Pneumothorax 0.0, Fracture 1.0
    patient90002/study1/view2_frontal.jpg  | Male    | 55  | Edema -1.0, Pneumonia -1.0, Pneumothorax 0.0, Fracture 1.0
    patient90002/study1/view3_lateral.jpg  | Male    | 55  | Edema -1.0, Pneumonia -1.0, Pneumothorax 0.0, Fracture 1.0
    patient90001/study2/view1_frontal.jpg  | Female  | 69  | Cardiomegaly 1.0, Lung Opacity 1.0, Support Devices 1.0
    patient90001/study2/view2_lateral.jpg  | Female  | 69  | Cardiomegaly 1.0, Lung Opacity 1.0, Support Devices 1.0
    patient90001/study1/view1_frontal.jpg  | Female  | 68  | No Finding 1.0, Pneumothorax 0.0, Support Devices 1.0
    patient90003/study1/view1_lateral.jpg  | Male    | 90  | Lung Lesion 1.0
    patient90003/study2/view1_frontal.jpg  | Male    | 90  | Pleural Effusion 1.0, Atelectasis -1.0
    patient90004/study1/view1_frontal.jpg  | Female  | 0   | Edema -1.0
    patient90005/study1/view1_frontal.jpg  | Unknown | 34  | No Finding 1.0, Pleural Effusion 0.0
    patient90006/study1/view1_frontal.jpg  | Male    | 41  |
    """
)[1:]
_VALID = parse_rows(
    """
    image                                  | sex     | age | states
    patient91001/study1/view1_frontal.jpg  | Male    | 73  | Cardiomegaly 1.0, Lung Opacity 1.0, Edema 1.0
    patient91002/study1/view1_frontal.jpg  | Female  | 70  | No Finding 1.0
    patient91002/study1/view2_lateral.jpg  | Female  | 70  | No Finding 1.0
    """
)[1:]
_PA = ("patient90001/study2", "patient90005", "patient91002")
_LL = ("patient90003/study2",)


def write_chexpert(root: Path, *, name: str = "CheXpert-v1.0-small") -> Path:
    """10 studies of 8 patients with 14 images in the folder `name` of `root`; returns that folder, the one to ingest.

    valid.csv has no blank state, as published: what is not present there is 0.0.
    """
    for part, images, blank in (("train", _TRAIN, ""), ("valid", _VALID, "0.0")):
        rows = []
        for image, sex, age, states in images:
            found = dict(state.rsplit(" ", 1) for state in states.split(", ")) if states else {}
            lateral = image.endswith("lateral.jpg")
            position = "" if lateral else "PA" if image.startswith(_PA) else "LL" if image.startswith(_LL) else "AP"
            kind = "Lateral" if lateral else "Frontal"
            states_in_order = [found.get(finding, blank) for finding in FINDING_COLUMNS]
            rows.append([f"{name}/{part}/{image}", sex, age, kind, position, *states_in_order])
            write_image(root / name / part / image)
        write_csv(root / name / f"{part}.csv", COLUMNS, rows)
    return root / name
