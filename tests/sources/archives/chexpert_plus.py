"""CheXpert Plus (Chambon et al. 2024): one table of images and report sections, labels in lines of JSON, PNG images.

The table's paths say .jpg and begin at the split; the images published with it are PNG/train/....png. No row is real.
"""

from __future__ import annotations

import json
from pathlib import Path

from sources.archives.chexpert import FINDING_COLUMNS
from sources.archives.csv_files import parse_rows, write_csv
from sources.archives.pixels import write_image

TABLE = "df_chexpert_plus_240401.csv"
LABEL_FILES = tuple(f"chexbert_labels/{text}_fixed.json" for text in ("findings", "impression", "report"))
_SECTIONS = (
    "narrative",
    "clinical_history",
    "history",
    "comparison",
    "technique",
    "procedure_comments",
    "findings",
    "impression",
    "end_of_impression",
    "summary",
    "accession_number",
)
COLUMNS = [
    "path_to_image",
    "path_to_dcm",
    "frontal_lateral",
    "ap_pa",
    "deid_patient_id",
    "patient_report_date_order",
    "report",
    *(f"section_{name}" for name in _SECTIONS),
    "age",
    "sex",
    "race",
    "ethnicity",
    "interpreter_needed",
    "insurance_type",
    "recent_bmi",
    "deceased",
    "split",
]

# The number of a study is not its place in time: patient90013's study3 comes first.
_IMAGES = parse_rows(
    """
    image                                       | position | order | age  | sex
    train/patient90012/study1/view1_frontal.jpg | AP       | 1     |      | Unknown
    train/patient90012/study1/view2_frontal.jpg | AP       | 1     |      | Unknown
    train/patient90012/study1/view3_lateral.jpg |          | 1     |      | Unknown
    train/patient90011/study1/view1_frontal.jpg | AP       | 1     | 45.0 | Female
    train/patient90011/study1/view2_lateral.jpg |          | 1     | 45.0 | Female
    train/patient90011/study2/view1_frontal.jpg | PA       | 2     | 45.0 | Female
    train/patient90013/study1/view1_frontal.jpg | LL       | 2     | 62.0 | Male
    train/patient90013/study3/view1_frontal.jpg | AP       | 1     | 61.0 | Male
    train/patient90014/study1/view1_frontal.jpg | AP       | 1     | 89.0 | Male
    valid/patient91011/study1/view1_frontal.jpg | PA       | 1     | 30.0 | Female
    valid/patient91011/study1/view2_lateral.jpg |          | 1     | 30.0 | Female
    """
)[1:]
_ACCESSION = (
    "\nThis report has been anonymized. All dates are offset from the actual dates by a fixed interval associated with"
    " this patient ID.\n"
)
# Sections by study, line ends and blank sections as in the archive. patient90014 has neither findings nor impression.
REPORTS = {
    "patient90011/study1": {
        "narrative": "\nXR CHEST 2 VIEWS: 1/2/2010\n",
        "clinical_history": "\nCough, fever.\n",
        "comparison": "\nNone.\n",
        "findings": '\nFrontal and lateral views,\nwith a "small" left effusion.\n',
        "impression": "\n1.  SMALL LEFT PLEURAL EFFUSION.\n\n2.  NO PNEUMOTHORAX.\n",
        "end_of_impression": "\n",
        "summary": "\n2-ABNORMAL, PREVIOUSLY REPORTED\n",
    },
    "patient90011/study2": {
        "narrative": "\nXR CHEST 1 VIEW\n",
        "findings": "\n",
        "impression": "\n1.  EFFUSION HAS RESOLVED.\n",
    },
    "patient90012/study1": {"narrative": "\n \n", "impression": "\n1.  LINES AND TUBES IN PLACE.\n"},
    "patient90013/study1": {"narrative": "\nLATERAL VIEW\n", "impression": "\n1.  STABLE.\n"},
    "patient90013/study3": {"narrative": "\nAP VIEW\n", "findings": "\nRib fracture.\n", "impression": "\nAS ABOVE.\n"},
    "patient90014/study1": {"narrative": "\nNO INTERPRETATION WAS DICTATED FOR THIS STUDY.\n"},
    "patient91011/study1": {"narrative": "\nTWO VIEWS\n", "impression": "\n1.  NORMAL CHEST.\n"},
}
# States by study, equal in the three files of labels but for patient90014, whose missing findings read as No Finding.
_STATES = {
    "patient90011/study1": {"Pleural Effusion": 1.0, "Pneumothorax": 0.0},
    "patient90011/study2": {"Pleural Effusion": 0.0},
    "patient90012/study1": {"Support Devices": 1.0, "Edema": -1.0},
    "patient90013/study1": {},
    "patient90013/study3": {"Fracture": 1.0},
    "patient90014/study1": {},
    "patient91011/study1": {"No Finding": 1.0},
}


def write_chexpert_plus(root: Path) -> Path:
    """7 studies of 5 patients with 11 images; returns the folder to ingest."""
    rows, labels = [], []
    for image, position, order, age, sex in _IMAGES:
        split, patient, study, view = image.split("/")
        sections = {**REPORTS[f"{patient}/{study}"], "accession_number": _ACCESSION}
        report = "".join(f"{name.upper().replace('_', ' ')}:{text}\n" for name, text in sections.items())
        kind = "Lateral" if "lateral" in view else "Frontal"
        rows.append(
            [image, image.replace(".jpg", ".dcm"), kind, position, patient, order, report]
            + [sections.get(name, "") for name in _SECTIONS]
            + [age, sex, "Other", "Unknown", "No", "Medicare", "25.7" if age else "", "No", split]
        )
        states = _STATES[f"{patient}/{study}"]
        labels.append({"path_to_image": image} | {finding: states.get(finding) for finding in FINDING_COLUMNS})
        write_image(root / "PNG" / image.replace(".jpg", ".png"))
    write_csv(root / TABLE, COLUMNS, rows)
    for name in LABEL_FILES:
        lines = [
            label | {"No Finding": 1.0} if "findings" in name and "patient90014" in str(label) else label
            for label in labels
        ]
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_text("\n".join(map(json.dumps, lines)) + "\n")
    return root
