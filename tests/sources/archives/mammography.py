"""RSNA, CBIS-DDSM, EMBED and CSAW-CC as they are published, with the oddities of each. No row is real."""

from __future__ import annotations

from pathlib import Path

from sources.archives.csv_files import parse_rows, write_csv

_RSNA = """
    site_id|patient_id|image_id|laterality|view|age|cancer|\
    biopsy|invasive|BIRADS|implant|density|machine_id|difficult_negative_case
    1|101|1|L|CC|61.0|0|0|0|1.0|0|B|49|False
    1|101|2|L|MLO|61.0|0|0|0|1.0|0|B|49|False
    1|101|3|R|CC|61.0|1|1|1|0.0|0|B|49|False
    1|101|4|R|MLO|61.0|1|1|1|0.0|0|B|49|False
    1|101|5|R|MLO|61.0|1|1|1|0.0|0|B|49|False
    1|101|6|R|AT|61.0|1|1|1|0.0|0|B|49|False
    2|102|7|L|CC||0|1|0||1||21|True
    2|102|8|L|ML||0|1|0||1||21|True
    2|102|9|L|LMO||0|1|0||1||21|True
    2|102|10|R|LM||0|0|0||1||21|False
"""


def write_rsna(root: Path) -> Path:
    """Two patients of two sites; right MLO twice, views that are neither CC nor MLO."""
    header, *rows = parse_rows(_RSNA)
    write_csv(root / "train.csv", header, rows)
    write_csv(root / "test.csv", ["site_id", "patient_id", "image_id"], [["2", "10008", "736471439"]])
    return root


_MASS = ["patient_id", "breast_density", "left or right breast", "image view", "abnormality id", "abnormality type"]
_CALC = ["patient_id", "breast density", *_MASS[2:]]
_REST = ["assessment", "pathology", "subtlety", "image file path", "cropped image file path", "ROI mask file path"]
MASS_COLUMNS = [*_MASS, "mass shape", "mass margins", *_REST]
CALC_COLUMNS = [*_CALC, "calc type", "calc distribution", *_REST]


def _cbis_row(kind: str, split: str, patient: str, side: str, view: str, number: int, words: list[str]) -> list[str]:
    name = f"{kind}-{split}_{patient}_{side}_{view}"
    files = [
        f"{name}/1.3/1.4/000000.dcm",
        f"{name}_{number}/1.5/1.6/000001.dcm\n",
        f"{name}_{number}/1.5/1.6/000000.dcm\n",
    ]
    density, assessment, pathology, *described = words
    abnormality = "mass" if kind == "Mass" else "calcification"
    return [patient, density, side, view, str(number), abnormality, *described, assessment, pathology, "4", *files]


def write_cbis(root: Path) -> Path:
    """A patient whose masses are in training and whose calcifications are in the test; line breaks, compound words."""
    spiculated = ["3", "5", "MALIGNANT", "IRREGULAR-ARCHITECTURAL_DISTORTION", "ILL_DEFINED-SPICULATED"]
    rows = [
        _cbis_row("Mass", "Training", "P_00001", "LEFT", "CC", 1, spiculated),
        _cbis_row("Mass", "Training", "P_00001", "LEFT", "MLO", 1, spiculated),
        _cbis_row("Mass", "Training", "P_00002", "RIGHT", "MLO", 1, ["2", "3", "BENIGN", "LYMPH_NODE", "N/A"]),
    ]
    write_csv(root / "mass_case_description_train_set.csv", MASS_COLUMNS, rows)
    rows = [_cbis_row("Mass", "Test", "P_00003", "LEFT", "CC", 1, ["1", "4", "BENIGN", "OVAL", "CIRCUMSCRIBED"])]
    write_csv(root / "mass_case_description_test_set.csv", MASS_COLUMNS, rows)
    clusters = ["0", "2", "BENIGN_WITHOUT_CALLBACK", "PUNCTATE-ROUND_AND_REGULAR", "CLUSTERED"]
    rows = [_cbis_row("Calc", "Training", "P_00004", "RIGHT", "CC", 1, clusters)]
    write_csv(root / "calc_case_description_train_set.csv", CALC_COLUMNS, rows)
    clusters = ["3", "4", "MALIGNANT", "PLEOMORPHIC", "LINEAR-SEGMENTAL"]
    rows = [
        _cbis_row("Calc", "Test", "P_00001", "LEFT", "CC", number, clusters) for number in (1, 2)
    ]  # two findings in one view
    write_csv(root / "calc_case_description_test_set.csv", CALC_COLUMNS, rows)
    return root


_CLINICAL = """
    empi_anon|acc_anon|study_date_anon|tissueden|asses|numfind|side|massshape|massmargin|\
    massdens|calcfind|calcdistri|bside|procdate_anon|path_severity|age_at_study|GENDER_DESC|RACE_DESC
    11|1001.0|2012-03-01|3.0|N|1|B|||||||||50.0|Female|Black
    11|1002.0|2014-03-01|3.0|S|1|L|X|S|+|I|L|L|2014-03-15|0.0|52.0|Female|Black
    11|1002.0|2014-03-01|3.0|B|2|||||V|||||52.0|Female|Black
    11|1002.0|2014-03-01|3.0|A|3|R|F||||||||52.0|Female|Black
    12|1003.0|2013-01-01|5.0|X|1|R|Q|||||R|2013-01-09|4.0|70.0|Male|White
"""
_METADATA = """
    anon_dicom_path|empi_anon|acc_anon|study_date_anon|\
    FinalImageType|ImageLateralityFinal|ViewPosition|spot_mag|ROI_coords
    /mnt/x/anon_dicom/cohort_1/11/1/a.dcm|11|1001|2012-03-01|2D|L|CC||()
    /mnt/x/anon_dicom/cohort_1/11/1/b.dcm|11|1001|2012-03-01|2D|R|CC||()
    /mnt/x/anon_dicom/cohort_1/11/2/c.dcm|11|1002|2014-03-01|\
    2D|L|MLO||((1216, 1136, 1511, 1435), (10, 20, 30, 40))
    /mnt/x/anon_dicom/cohort_1/11/2/d.dcm|11|1002|2014-03-01|cview|L|MLO||()
    /mnt/x/anon_dicom/cohort_1/11/2/e.dcm|11|1002|2014-03-01|2D|L|ML|1.0|()
    /mnt/x/anon_dicom/cohort_1/11/2/f.dcm|11|1002|2014-03-01|2D|R|CC||()
    /mnt/x/anon_dicom/cohort_2/12/3/g.dcm|12|1003|2013-01-01|2D|R|MLO||()
    /mnt/x/anon_dicom/cohort_2/13/4/h.dcm|13|1004|2013-01-01|2D|R|MLO||()
"""


def write_embed(root: Path) -> Path:
    """Three patients; findings of one side, of both (B and blank), a male, an exam without clinical row."""
    for name, text in (("clinical", _CLINICAL), ("metadata", _METADATA)):
        header, *rows = parse_rows(text)
        write_csv(root / "tables" / f"EMBED_OpenData_{name}_reduced.csv", header, rows)
    return root


_CSAW = """
    anon_patientid|exam_year|anon_filename|imagelaterality|viewposition|\
    rad_timing|rad_recall|x_case|x_cancer_laterality|x_age|libra_percentdensity
    7|2010|00007_20990909_L_CC_1|Left|CC|3|0|1|Left|2|20.5
    7|2010|00007_20990909_R_MLO_1|Right|MLO|3|0|1|Left|2|20.5
    7|2014|00007_20990909_L_CC_2|Left|CC|1|1|1|Left|2|21.5
    7|2014|00007_20990909_R_MLO_2|Right|MLO|1|1|1|Left|2|20.5
    8|2011|00008_20990909_R_CC_1|Right|CC|2||1|Right|1|10.5
    9|2009|00009_20990909_R_CC_1|Right|CC|3|0|1|Right|1|10.5
    10|2011|00010_20990909_L_CC_1|Left|CC||0|0||1|10.5
    10|2013|00010_20990909_L_CC_2|Left|CC||0|0||1|10.5
"""


def write_csaw(root: Path) -> Path:
    """A cancer found at an exam, an interval cancer, one long after the last exam, and a woman without."""
    header, *rows = parse_rows(_CSAW)
    place = header.index("anon_filename")
    rows = [[*row[:place], f"{row[place]}.dcm", *row[place + 1 :]] for row in rows]
    write_csv(root / "CSAW-CC_breast_cancer_screening_data.csv", header, rows)
    return root
