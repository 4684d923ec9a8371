"""Symile-MIMIC 1.0.0: four tables and arrays, whose rows are not in the order of the tables. No row is real.

X-rays have 64 x 64 pixels instead of 320 x 320, ECGs 2,500 samples instead of 5,000 where they are asked for and 8
where not. 12 admissions of 11 subjects are for
training, 10 for validation and 10 for the test; each query has its own admission and the nine others as candidates.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from hilum.imaging.array_row import IMAGENET_MEAN, IMAGENET_STD
from hilum.sources.symile_labs import LABS
from signals.ecg_files import make_leads
from sources.archives.csv_files import write_csv

FINDINGS = ["Atelectasis", "Cardiomegaly", "Edema", "Lung Opacity", "No Finding", "Pleural Effusion"]
STATES = ["1.0", "0.0", "-1.0", "", "", ""]
FIRST = {"train": 100, "val": 200, "test": 300}  # of the admissions' numbers
FLAT = ("train", 3)  # an admission whose recorder was not connected
NUMBER = {"train": 12, "val": 10, "test": 10}


def name_admission(split: str, number: int) -> str:
    return str(20_000_000 + FIRST[split] + number)


def name_subject(split: str, number: int) -> str:
    """The first two admissions for training are of one subject."""
    return str(10_000_000 + FIRST[split] + (0 if (split, number) == ("train", 1) else number))


def make_picture(split: str, number: int) -> np.ndarray:
    """The 8-bit grey image of an admission (64, 64)."""
    return np.random.default_rng([FIRST[split], number]).integers(0, 256, (64, 64), dtype=np.uint8)


def normalize(picture: np.ndarray) -> np.ndarray:
    """As torchvision does: (3, height, width) float32."""
    grey = picture.astype(np.float32) / 255
    mean, std = (np.array(numbers, np.float32)[:, None, None] for numbers in (IMAGENET_MEAN, IMAGENET_STD))
    return (grey[None] - mean) / std


def list_observed(number: int) -> np.ndarray:
    """Which of the 50 values an admission has: at least one."""
    return (np.arange(50) + number) % 3 != 0


def make_ecg(split: str, number: int, samples: int) -> np.ndarray:
    """(1, samples, 12) between -1 and 1, leads in the order of MIMIC-IV-ECG; of few samples, and of FLAT, nothing."""
    if samples < 100 or (split, number) == FLAT:
        return np.zeros((1, samples, 12), np.float32)
    leads = make_leads(samples / 500, seed=FIRST[split] + number)
    low, high = leads.min(), leads.max()
    return (2 * (leads.T[None] - low) / (high - low) - 1).astype(np.float32)


def write_symile_mimic(root: Path, ecg_samples: int = 8) -> Path:
    """Tables at the root, arrays below data_npy; returns the folder to ingest."""
    for split in ("train", "val"):
        numbers = list(range(NUMBER[split]))
        _write_table(root / f"{split}.csv", split, [(number, None) for number in numbers])
        _write_arrays(root, split, split, numbers[::-1], ecg_samples)
    for split, name in (("val", "val_retrieval"), ("test", "test")):
        queries = range(NUMBER[split])
        # A query's own row is not its first.
        pairs = [(number, query) for query in queries for number in sorted(queries, key=lambda n: (n - query - 4) % 10)]
        _write_table(root / f"{name}.csv", split, pairs)
        order = pairs[7:] + pairs[:7]  # another order than the table's
        _write_arrays(root, split, name, [number for number, _ in order], ecg_samples)
        folder = root / "data_npy" / name
        queried = np.array([int(name_admission(split, query)) for _, query in order])
        np.save(folder / f"label_hadm_id_{name}.npy", queried)
        np.save(folder / f"label_{name}.npy", np.array([int(number == query) for number, query in order]))
    return root


def _write_table(path: Path, split: str, rows: list[tuple[int, int | None]]) -> None:
    header = [
        "subject_id",
        "hadm_id",
        "cxr_path",
        *FINDINGS,
        "ecg_path",
        *LABS,
        *(f"{item}_percentile" for item in LABS),
    ]
    header += [] if rows[0][1] is None else ["label_hadm_id", "label"]
    lines = []
    for number, query in rows:
        subject, admission = name_subject(split, number), name_admission(split, number)
        values = [f"{number + place / 10}" if there else "" for place, there in enumerate(list_observed(number))]
        line = [subject, admission, f"files/p10/p{subject}/s5/x.jpg", *STATES, f"files/p1000/p{subject}/s4/4"]
        line += [*values, *["0.5"] * 50]
        lines.append(line if query is None else [*line, name_admission(split, query), str(int(number == query))])
    write_csv(path, header, lines)


def _write_arrays(root: Path, split: str, name: str, numbers: list[int], ecg_samples: int) -> None:
    folder = root / "data_npy" / name
    folder.mkdir(parents=True)
    save = {
        "cxr": np.stack([normalize(make_picture(split, number)) for number in numbers]),
        "ecg": np.stack([make_ecg(split, number, ecg_samples) for number in numbers]),
        "labs_percentiles": np.full((len(numbers), 50), 0.5, np.float32),
        "labs_missingness": np.stack([list_observed(number) for number in numbers]).astype(np.int64),
        "hadm_id": np.array([int(name_admission(split, number)) for number in numbers]),
    }
    for stem, array in save.items():
        np.save(folder / f"{stem}_{name}.npy", array)
