"""MIMIC-CXR-JPG 2.0.0/2.1.0 with the reports of MIMIC-CXR: file names, folders and columns as on PhysioNet.

No row or report is real: subjects and studies have numbers below or above those the archive uses.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from sources.archives.csv_files import parse_rows, write_csv
from sources.archives.pixels import write_image

METADATA_COLUMNS = [
    "dicom_id",
    "subject_id",
    "study_id",
    "PerformedProcedureStepDescription",
    "ViewPosition",
    "Rows",
    "Columns",
    "StudyDate",
    "StudyTime",
    "ProcedureCodeSequence_CodeMeaning",
    "ViewCodeSequence_CodeMeaning",
    "PatientOrientationCodeSequence_CodeMeaning",
]
FINDING_COLUMNS = [
    "Atelectasis",
    "Cardiomegaly",
    "Consolidation",
    "Edema",
    "Enlarged Cardiomediastinum",
    "Fracture",
    "Lung Lesion",
    "Lung Opacity",
    "No Finding",
    "Pleural Effusion",
    "Pleural Other",
    "Pneumonia",
    "Pneumothorax",
    "Support Devices",
]

# The last two subjects hold eight studies that have an image and no row of labels, as eight studies of the archive do.
# Study 60000007 is in the metadata and not in the split. StudyTime loses its leading zeros: 80.015 is 00:01:20.015.
_IMAGES = parse_rows(
    """
    subject  | study    | procedure           | view            | date     | time       | split
    10000001 | 60000001 | CHEST (PA AND LAT)  | PA              | 21800506 | 213014.531 | train
    10000001 | 60000001 | CHEST (PA AND LAT)  | LATERAL         | 21800506 | 213014.531 | train
    10000001 | 60000003 | CHEST (PORTABLE AP) | AP              | 21810506 | 213014.531 | train
    10000001 | 60000002 | CHEST (PORTABLE AP) | AP              | 21800626 | 213014.531 | train
    10000002 | 60000004 | CHEST (PA AND LAT)  | LL              | 21530101 | 80.015     | validate
    10000002 | 60000004 | CHEST (PA AND LAT)  | PA              | 21530101 | 80.015     | validate
    10000002 | 60000004 | CHEST (PA AND LAT)  | AP              | 21530101 | 80.015     | validate
    10000003 | 60000005 | CHEST (PA AND LAT)  |                 | 21121231 | 93014.0    | test
    10000003 | 60000006 |                     | AP AXIAL        | 21130101 | 93014.0    | test
    10000003 | 60000006 |                     | XTABLE LATERAL  | 21130101 | 93014.0    | test
    10000003 | 60000006 |                     | SWIMMERS        | 21130101 | 93014.0    | test
    10000003 | 60000006 |                     | LAO             | 21130101 | 93014.0    | test
    10000004 | 60000007 | DX CHEST PORT       | PA RLD          | 21991115 | 120000.0   |
    10000004 | 60000008 | CHEST (PA AND LAT)  | PA              | 21991116 | 120000.0   | train
    19999991 | 60000009 | CHEST (PORTABLE AP) | AP              | 21440229 | 10203.25   | train
    19999991 | 60000010 | CHEST (PORTABLE AP) | AP              | 21440301 | 10203.25   | train
    19999991 | 60000011 | CHEST (PORTABLE AP) | AP              | 21440302 | 10203.25   | train
    19999991 | 60000012 | CHEST (PORTABLE AP) | AP              | 21440303 | 10203.25   | train
    19999992 | 60000013 | CHEST (PORTABLE AP) | AP              | 21600704 | 10203.25   | train
    19999992 | 60000014 | CHEST (PORTABLE AP) | AP              | 21600705 | 10203.25   | train
    19999992 | 60000015 | CHEST (PORTABLE AP) | AP              | 21600706 | 10203.25   | train
    19999992 | 60000016 | CHEST (PORTABLE AP) | AP              | 21600707 | 10203.25   | train
    """
)[1:]
_VIEW_MEANINGS = {"PA": "postero-anterior", "AP": "antero-posterior", "LATERAL": "lateral", "LL": "left lateral"}

# States by study; what is left out is blank.
_CHEXPERT = {
    "60000001": {"Edema": "1.0", "Pleural Effusion": "1.0", "Pneumothorax": "0.0", "Pneumonia": "-1.0"},
    "60000002": {"No Finding": "1.0"},
    "60000003": {"Fracture": "0.0"},
    "60000004": {"Support Devices": "1.0", "Lung Opacity": "-1.0"},
    "60000005": {"Atelectasis": "-1.0", "Cardiomegaly": "0.0"},
    "60000006": {"Lung Lesion": "1.0"},
    "60000007": {},
    "60000008": {"Consolidation": "1.0"},
}
_NEGBIO = _CHEXPERT | {
    "60000001": {"Edema": "-1.0", "Fracture": "1.0", "Pleural Effusion": "1.0", "Pneumonia": "1.0"},
    "60000002": {},
}

_HEADER = "                                 FINAL REPORT\n"
# Studies 60000008 and above have no report file.
REPORTS = {
    "60000001": _HEADER
    + """ EXAMINATION:  CHEST (PA AND LAT)
 \x20
 INDICATION:  ___ year old woman with cough  // rule out pneumonia
 \x20
 TECHNIQUE:  Chest PA and lateral
 \x20
 COMPARISON:  ___
 \x20
 FINDINGS:\x20
 \x20
 The heart is mildly enlarged.  There is a small left
 pleural effusion: no pneumothorax.
 \x20
 IMPRESSION:\x20
 \x20
 1.  Small left pleural effusion.
 2.  Mild edema.
""",
    "60000002": _HEADER
    + """ CHEST RADIOGRAPH PERFORMED ON ___
 \x20
 COMPARISON:  None.
 \x20
 IMPRESSION:  No acute cardiopulmonary process.
""",
    "60000003": """ WET READ: ___ ___ ___ 9:15 PM
  No pneumothorax on the wet read.
 ______________________________________________________________________________
"""
    + _HEADER
    + """ HISTORY:  Fall.
 \x20
 FINDINGS AND IMPRESSION:  Single portable view.  No displaced rib fracture.
 \x20
 \x20
 \x20
                                 ADDENDUM\x20
 \x20
 The case was discussed by telephone at 14:30.
""",
    "60000004": _HEADER
    + """ INDICATION:  Line placement.
 \x20
 FINDINGS:  The right line ends in the upper vena cava.

 Lung volumes are low.
""",
    "60000005": _HEADER + " AP view of the chest.  Lungs are clear.\n",
    "60000006": _HEADER + " Chest:\n \n Nodule in the right upper lobe.\n \n Conclusion:  Follow up with CT.\n",
    "60000007": _HEADER + " \n FINDINGS:\n \n IMPRESSION:\n \n",
}


def write_mimic_cxr(root: Path, *, compressed: bool = True, reports: str = ".") -> Path:
    """16 studies of 6 subjects with 22 images; returns the folder to ingest.

    Tables are gzipped as published unless `compressed` is False. Report files are in files/p10/p10000001/ below the
    folder `reports`: "." where the zip file was unpacked beside the tables, or "mimic-cxr-reports".
    """
    suffix = ".csv.gz" if compressed else ".csv"
    metadata, split, names = [], [], []
    for number, (subject, study, procedure, view, date, time, part) in enumerate(_IMAGES):
        digits = hashlib.sha1(f"{study} {number}".encode(), usedforsecurity=False).hexdigest()
        dicom = "-".join(digits[start : start + 8] for start in range(0, 40, 8))
        meaning = _VIEW_MEANINGS.get(view, "")
        erect = "Erect" if meaning else ""
        metadata.append(
            [dicom, subject, study, procedure, view, "3056", "2544", date, time, procedure, meaning, erect],
        )
        if part:
            split.append([dicom, study, subject, part])
        names.append(f"files/p{subject[:2]}/p{subject}/s{study}/{dicom}.jpg")
        write_image(root / names[-1])
        if study in REPORTS:
            report = root / reports / f"files/p{subject[:2]}/p{subject}/s{study}.txt"
            report.parent.mkdir(parents=True, exist_ok=True)
            report.write_text(REPORTS[study])
    write_csv(root / f"mimic-cxr-2.0.0-metadata{suffix}", METADATA_COLUMNS, metadata)
    write_csv(root / f"mimic-cxr-2.0.0-split{suffix}", ["dicom_id", "study_id", "subject_id", "split"], split)
    subjects = {study: subject for subject, study, *_ in _IMAGES}
    for labeller, states in (("chexpert", _CHEXPERT), ("negbio", _NEGBIO)):
        rows = [
            [subjects[study], study, *(found.get(name, "") for name in FINDING_COLUMNS)]
            for study, found in states.items()
        ]
        write_csv(root / f"mimic-cxr-2.0.0-{labeller}{suffix}", ["subject_id", "study_id", *FINDING_COLUMNS], rows)
    (root / "IMAGE_FILENAMES").write_text("\n".join(names) + "\n")
    return root
