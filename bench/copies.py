"""Copies of images: how near they stay, how far others are, and what looking for them costs.

On the small public X-ray sets in HILUM_REAL_DATA (or ../shared/data): bits of the perceptual hash between images and
changed copies, and between images of different patients; recall of `overlap/copies.py` for moved and mirrored copies;
seconds
of processor time. Writes results/bench/copies.json.
"""

from __future__ import annotations

import io
import os
import time
from pathlib import Path

import numpy as np
import polars as pl
from PIL import Image, ImageOps
from rich.console import Console
from rich.table import Table

from hilum.overlap.copies import match_pictures
from hilum.overlap.perceptual_hash import NEAR, NUM_BITS, count_bits, find_nearest, hash_image, shrink, take_square

from .record import write_result

SETS = {"nih": "patient_id", "cxr_multiview": "patient_group", "hannover_cxr_labs": "patient_id"}
STEP = 12  # every n-th image is changed
MOVES = {"5 degrees, 5 %, 2 %": (5, 0.05, 0.02), "10 degrees, 10 %, 3 %": (10, 0.1, 0.03)}


def main() -> dict:
    """Measure, print two tables, write the JSON."""
    pictures, patient = read_sets(
        Path(os.environ.get("HILUM_REAL_DATA", Path(__file__).parents[2] / "shared" / "data"))
    )
    begin = time.process_time()
    hashes = np.stack([hash_image(picture) for picture in pictures])
    seconds = {"hash, ms an image": 1e3 * (time.process_time() - begin) / len(pictures)}
    begin = time.process_time()
    find_nearest(hashes, hashes)
    seconds["nearest, ns a pair"] = 1e9 * (time.process_time() - begin) / len(pictures) ** 2
    bits = np.minimum(*(count_bits(hashes[:, part], hashes[:, part]) for part in (0, 1)))
    strange = (patient[:, None] != patient[None]) & (bits > NEAR)  # one collection took images from another
    strangers = np.sort(bits[np.triu(patient[:, None] != patient[None], 1)])
    copies = {name: measure_copies(pictures[::STEP], change) for name, change in CHANGES.items()}
    moved = {}
    begin = time.process_time()
    for name, how in MOVES.items():
        moved[name] = measure_moved(pictures, strange, *how)
    asked = sum(found["asked"] for found in moved.values())
    seconds["moved copies, ms an image asked"] = 1e3 * (time.process_time() - begin) / asked
    result = {
        "images": len(pictures),
        "bits": NUM_BITS,
        "near": NEAR,
        "pairs_of_different_patients": len(strangers),
        "of_these_near": int((strangers <= NEAR).sum()),
        "nearest_beyond": strangers[strangers > NEAR][:5].tolist(),
        "copies": copies,
        "moved": moved,
        "processor": seconds,
    }
    print_result(result)
    write_result("copies", result)
    return result


def read_sets(root: Path) -> tuple[list[np.ndarray], np.ndarray]:
    """Images with a short side of 256 pixels, and whose they are."""
    pictures, patients = [], []
    for name, person in SETS.items():
        for path, owner in pl.read_csv(root / name / "manifest.csv", infer_schema=False).select("path", person).rows():
            image = Image.open(root / name / path).convert("L")
            scale = min(1.0, 256 / min(image.size))
            size = (round(image.width * scale), round(image.height * scale))
            pictures.append(np.asarray(image.resize(size, Image.Resampling.HAMMING)))
            patients.append(f"{name}/{owner}")
    return pictures, np.array(patients)


def compress(picture: np.ndarray, quality: int = 40) -> np.ndarray:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "JPEG", quality=quality)
    return np.asarray(Image.open(buffer).convert("L"))


def clip(grey: np.ndarray) -> np.ndarray:
    return np.clip(grey, 0, 255).astype(np.uint8)


CHANGES = {
    "JPEG 40": compress,
    "half the size": lambda picture: np.asarray(Image.fromarray(picture).reduce(2)),
    "central square": take_square,
    "squashed to 224 x 224": lambda picture: np.asarray(Image.fromarray(picture).resize((224, 224))),
    "25 % brighter": lambda picture: clip(picture * 1.25 + 15.0),
    "gamma 0.7": lambda picture: clip(255 * (picture / 255) ** 0.7),
    "noise of 4 %": lambda picture: clip(picture + np.random.default_rng(0).normal(0, 10, picture.shape)),
    "histogram equalised": lambda picture: np.asarray(ImageOps.equalize(Image.fromarray(picture))),
}


def measure_copies(pictures: list[np.ndarray], change) -> dict[str, float]:
    """Bits between images and their changed copies: median, 95th percentile, most."""
    bits = []
    for picture in pictures:
        one, other = hash_image(picture), hash_image(change(picture))
        bits.append(min(int(np.bitwise_count(one[part] ^ other[part]).sum()) for part in (0, 1)))
    return {"median": float(np.median(bits)), "p95": float(np.quantile(bits, 0.95)), "most": max(bits)}


def measure_moved(pictures: list[np.ndarray], strange: np.ndarray, degrees: float, size: float, move: float) -> dict:
    """How many moved copies `match_pictures` finds among all images, and how many others it takes for copies.

    Args:
        strange: (image, other) -> whether they are of different patients, and no copies of each other themselves.
    """
    rng = np.random.default_rng(0)
    places = range(3, len(pictures), STEP)
    asked = np.stack([shrink(move_copy(pictures[place], rng, degrees, size, move)) for place in places])
    found = match_pictures(asked, np.stack([shrink(picture) for picture in pictures]))
    wrong = [(places[one], other) for one, other in found if strange[places[one], other]]
    return {
        "asked": len(asked),
        "found": sum((number, place) in found for number, place in enumerate(places)),
        "of_others": len(wrong),
    }


def move_copy(
    picture: np.ndarray, rng: np.random.Generator, degrees: float, size: float, move: float, side: int = 224
) -> np.ndarray:
    """Turned, enlarged and moved at random up to these limits, half of the time mirrored, brighter or darker, JPEG."""
    angle, scale = np.deg2rad(rng.uniform(-degrees, degrees)), 1 + rng.uniform(-size, size)
    cosine, sine, middle = np.cos(angle) / scale, np.sin(angle) / scale, side / 2
    across, down = rng.uniform(-move, move, 2) * side
    affine = (cosine, sine, middle - (cosine + sine) * middle + across)
    affine += (-sine, cosine, middle - (cosine - sine) * middle + down)
    image = Image.fromarray(picture).resize((side, side), Image.Resampling.BILINEAR)
    image = image.transform((side, side), Image.Transform.AFFINE, affine, Image.Resampling.BILINEAR)
    if rng.random() < 0.5:
        image = ImageOps.mirror(image)
    return compress(clip(np.asarray(image) * rng.uniform(0.8, 1.2)), 85)


def print_result(result: dict) -> None:
    console = Console()
    table = Table("copy", "median", "95 %", "most", title=f"Bits of {NUM_BITS}; near: {NEAR}")
    for name, found in result["copies"].items():
        table.add_row(name, *(f"{found[key]:.0f}" for key in ("median", "p95", "most")))
    console.print(table)
    console.print(
        f"{result['of_these_near']} of {result['pairs_of_different_patients']:,} pairs of different patients are near; "
        f"the next: {result['nearest_beyond']}"
    )
    for name, found in result["moved"].items():
        console.print(f"moved by up to {name}: {found}")
    console.print({name: round(value, 2) for name, value in result["processor"].items()})
