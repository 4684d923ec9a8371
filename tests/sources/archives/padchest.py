"""PadChest (Bustos et al. 2020): one table of 36 columns, 16-bit PNG images in numbered folders.

No row is real: study and patient numbers are of the right length and repeat three digits; reports are written in the
archive's manner, Spanish reduced to stems.
"""

from __future__ import annotations

from pathlib import Path

from sources.archives.csv_files import parse_rows, write_csv
from sources.archives.pixels import write_image

TABLE = "PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv"
COLUMNS = [
    "",  # the row number has no name
    "ImageID",
    "ImageDir",
    "StudyDate_DICOM",
    "StudyID",
    "PatientID",
    "PatientBirth",
    "PatientSex_DICOM",
    "ViewPosition_DICOM",
    "Projection",
    "MethodProjection",
    "Pediatric",
    "Modality_DICOM",
    "Manufacturer_DICOM",
    "PhotometricInterpretation_DICOM",
    "PixelRepresentation_DICOM",
    "PixelAspectRatio_DICOM",
    "SpatialResolution_DICOM",
    "BitsStored_DICOM",
    "WindowCenter_DICOM",
    "WindowWidth_DICOM",
    "Rows_DICOM",
    "Columns_DICOM",
    "XRayTubeCurrent_DICOM",
    "Exposure_DICOM",
    "ExposureInuAs_DICOM",
    "ExposureTime",
    "RelativeXRayExposure_DICOM",
    "ReportID",
    "Report",
    "MethodLabel",
    "Labels",
    "Localizations",
    "LabelsLocalizationsBySentence",
    "labelCUIS",
    "LocalizationsCUIS",
]

# Study 4 carries patients 3 and 4, who both have another study. Study 3 has four images in two folders. Of study 11
# both images are PA. Position and projection do not always agree. "nan" is a word in the file, a blank birth is none.
_IMAGES = parse_rows(
    """
    image | folder | date     | study | patient | birth  | sex | position       | projection
    1a    | 0      | 20140915 | 1     | 1       | 1930.0 | F   | POSTEROANTERIOR | PA
    1b    | 0      | 20140915 | 1     | 1       | 1930.0 | F   | LATERAL         | L
    2a    | 0      | 20150915 | 2     | 1       | 1930.0 | F   | nan             | AP_horizontal
    3a    | 12     | 20100104 | 3     | 2       | 1951.0 | M   | PA              | PA
    3b    | 12     | 20100104 | 3     | 2       | 1951.0 | M   | LL              | L
    3c    | 12     | 20100104 | 3     | 2       | 1951.0 | M   | nan             | COSTAL
    3d    | 54     | 20100104 | 3     | 2       | 1951.0 | M   | nan             | COSTAL
    4a    | 12     | 20111003 | 4     | 3       | 1922.0 | M   | AP              | AP
    4b    | 12     | 20111003 | 4     | 3       | 1922.0 | M   | ANTEROPOSTERIOR | AP
    4c    | 12     | 20111003 | 4     | 4       | 1922.0 | M   | nan             | AP
    5a    | 12     | 20111005 | 5     | 3       | 1922.0 | M   | nan             | PA
    6a    | 54     | 20111102 | 6     | 4       | 1922.0 | M   | nan             | PA
    7a    | 54     | 20120229 | 7     | 5       | 1970.0 | F   | OBLICUA         | EXCLUDE
    8a    | 54     | 20120301 | 8     | 5       | 1970.0 | F   | nan             | UNK
    9a    | 54     | 20151216 | 9     | 6       | 2012.0 | F   | nan             | AP
    10a   | 54     | 20161109 | 10    | 7       |        | O   | nan             | PA
    11a   | 54     | 20170105 | 11    | 8       | 1988.0 | nan | PA              | PA
    11b   | 54     | 20170105 | 11    | 8       | 1988.0 | nan | PA              | PA
    """
)[1:]
# study: (who read it, labels as the archive wrote them, report)
_READINGS = {
    "1": ("Physician", "['normal']", " torax sin alter signific ."),
    "2": ("RNN_model", "['cardiomegaly', ' pleural effusion', 'cardiomegaly']", " silu cardiac aument . derram dch ."),
    "3": ("Physician", "['pneumonia', 'unchanged']", " neumoni bas izquierd sin cambi ."),
    "4": ("RNN_model", "['aortic elongation', 'pleural effusion']", " elong aort . derram bilateral ."),
    "5": ("Physician", "['dual chamber device', ' pacemaker']", " marcapas bicameral ."),
    "6": ("RNN_model", "['normal']", " normal ."),
    "7": ("RNN_model", "['exclude']", " i"),
    "8": ("RNN_model", "nan", " nan"),
    "9": ("RNN_model", "['unchanged', ' scoliosis']", " sin cambi respect previ ."),
    "10": ("RNN_model", "['']", "nan"),
    "11": (
        "Physician",
        "['pulmonary edema', 'atelectasis', 'pneumothorax', '', 'consolidation']",
        " edem .",
    ),
}


def name_study(number: str) -> str:
    """A StudyID of 39 digits."""
    return f"7{int(number):02d}" * 13


def name_patient(number: str) -> str:
    """A PatientID of 39 digits."""
    return f"3{int(number):02d}" * 13


def write_padchest(root: Path, *, compressed: bool = False) -> Path:
    """11 studies of 8 patients (7 persons) with 18 images; returns the folder to ingest."""
    rows = []
    for row, (image, folder, date, study, patient, birth, sex, position, projection) in enumerate(_IMAGES):
        reader, labels, report = _READINGS[study]
        name = f"{name_study(study)}_{image}k9x.png"
        codes = "nan" if labels == "nan" else "['C0034069' 'C0742362'\n 'C2115817']"  # numpy breaks long lines
        known = {
            "": str(row),
            "ImageID": name,
            "ImageDir": folder,
            "StudyDate_DICOM": date,
            "StudyID": name_study(study),
            "PatientID": name_patient(patient),
            "PatientBirth": birth,
            "PatientSex_DICOM": sex,
            "ViewPosition_DICOM": position,
            "Projection": projection,
            "MethodProjection": "Manual review of DICOM fields" if row % 5 else "resnet-50.t7",
            "Pediatric": "PED" if study == "9" else "No",
            "Modality_DICOM": "CR" if row % 3 else "DX",
            "Manufacturer_DICOM": "ImagingDynamicsCompanyLtd" if row % 2 else "PhilipsMedicalSystems",
            "PhotometricInterpretation_DICOM": "MONOCHROME2",
            "PixelRepresentation_DICOM": "0",
            "BitsStored_DICOM": "12",
            "WindowCenter_DICOM": "2092",
            "WindowWidth_DICOM": "2251",
            "Rows_DICOM": "1728",
            "Columns_DICOM": "1872",
            "ReportID": f"90000{int(study):02d}",
            "Report": report,
            "MethodLabel": reader,
            "Labels": labels,
            "Localizations": "nan" if labels == "nan" else "['loc basal', 'loc left']",
            "LabelsLocalizationsBySentence": "nan" if labels == "nan" else f"[{labels}]",
            "labelCUIS": codes,
            "LocalizationsCUIS": "['C1282378']",
        }
        rows.append([known.get(column, "None") for column in COLUMNS])
        write_image(root / folder / name, bits=16)
    write_csv(root / (TABLE + ".gz" if compressed else TABLE), COLUMNS, rows)
    return root
