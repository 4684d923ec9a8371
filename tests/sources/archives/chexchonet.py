"""CheXchoNet 1.0.0: one table, with labels that are blank and patients with several images. No row is real."""

from __future__ import annotations

from pathlib import Path

from sources.archives.csv_files import parse_rows, write_csv
from sources.archives.pixels import write_image

_ROWS = """
    patient_id | cxr_filename | cxr_time_offset | age | sex | ivsd | lvpwd | lvidd | slvh  | dlv   | composite_slvh_dlv
    CX900001   | a1.png       | 0               | 61  | F   | 1.1  | 1.0   | 4.6   | False | False | False
    CX900001   | a2.png       | 365             | 62  | F   | 1.6  | 1.5   | 4.6   | True  | False | True
    CX900002   | b1.png       | 12              | 45  | M   |      |       | 6.1   |       | True  | True
    CX900003   | c1.png       | 7               | 80  | M   | nan  | 0.9   | 5.0   | False |       |
"""


def write_chexchonet(root: Path) -> Path:
    """Four images of three patients; returns the folder to ingest."""
    header, *rows = parse_rows(_ROWS)
    further = ["heart_transplant", "lung_transplant", "pacemaker_or_icd", "cxr_year", "cxr_path"]
    write_csv(
        root / "metadata.csv", [*header, *further], [[*row, "0", "0", "1", "2015", f"images/{row[1]}"] for row in rows]
    )
    for row in rows:
        write_image(root / "images" / row[1])
    return root
