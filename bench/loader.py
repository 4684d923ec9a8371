"""The loader alone, against decoding 256-px PNGs one by one through torchvision v2; per core, in the same run.

Both make the same thing for a training step at 224 px: random resized crop, flip, brightness and contrast jitter,
normalisation. Prints images per second of processor time (all threads added up: another program on the machine
disturbs that little) and their ratio, and writes results/bench/loader.json.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from rich.console import Console
from rich.table import Table
from scipy.ndimage import gaussian_filter
from torchvision.io import ImageReadMode, decode_image, read_file
from torchvision.transforms import v2

from hilum.augment import prepare
from hilum.cache import Cache
from hilum.cache.writer import build_cache
from hilum.config import AugmentConfig
from hilum.loader import StudyLoader
from hilum.study import build_studies, write_studies

from .record import write_result

NUM_STUDIES, SIDE, SIZE, VIEWS_PER_STEP, ROUNDS = 192, 256, 224, 128, 7
AUGMENT = AugmentConfig(flip_probability=0.5, jitter_probability=0.8, brightness=0.4, contrast=0.4)
VARIANTS = {
    "torchvision": "PNG decoded and transformed one by one (torchvision v2, 8 bit)",
    "packed": "packed 8-bit batches, ready for the device",
    "augmented": "packed batches, augmented and normalised on the processor",
}
TARGETS = {"packed": 20.0, "augmented": 2.0}


def main() -> dict:
    """Measure all variants in turns, print the table, write the JSON."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        paths, cache = write_images(Path(folder))
        works = make_works(paths, cache)
        rates: dict[str, list[float]] = {name: [] for name in VARIANTS}
        for work in works.values():
            work()
        for _ in range(ROUNDS):
            for name, work in works.items():
                begin = time.process_time()
                num_images = work()
                rates[name].append(num_images / (time.process_time() - begin))
        size = statistics.mean(path.stat().st_size for path in paths)
    # The median of the ratios of neighbours in time: what slows the machine slows both.
    ratios = {
        name: statistics.median(ours / base for ours, base in zip(rates[name], rates["torchvision"], strict=True))
        for name in TARGETS
    }
    result = {
        "image_side": SIDE,
        "size": SIZE,
        "png_bytes": round(size),
        "images_per_cpu_second": {name: statistics.median(values) for name, values in rates.items()},
        "rounds": rates,
        "ratio": ratios,
        "target": TARGETS,
        "torch": torch.__version__,
    }
    print_table(result)
    write_result("loader", result)
    return result


def write_images(folder: Path) -> tuple[list[Path], Cache]:
    """Studies of one and two views as 256-px PNGs with the smoothness and grain of a radiograph, and their cache."""
    rng = np.random.default_rng(0)
    rows, paths = [], []
    for study in range(NUM_STUDIES):
        views = []
        for view in range(1 + study % 2):
            smooth = gaussian_filter(rng.normal(size=(SIDE, SIDE)), 12)
            smooth = (smooth - smooth.min()) / np.ptp(smooth)
            grain = gaussian_filter(rng.normal(size=(SIDE, SIDE)), 0.7) * 6
            path = folder / f"{study}-{view}.png"
            Image.fromarray(np.clip(smooth * 225 + 15 + grain, 0, 255).astype(np.uint8)).save(path)
            views.append({"path": path.name, "kind": "frontal", "position": "", "laterality": "unknown"})
            paths.append(path)
        name = str(study)
        rows.append({"dataset": "bench", "study": name, "patient": name, "root": str(folder), "views": views})
    write_studies(build_studies(rows), folder / "studies.parquet")
    build_cache(folder / "studies.parquet", folder / "cache", workers=0, short_side=SIDE, progress=False)
    return paths, Cache.open(folder / "cache")


def make_works(paths: list[Path], cache: Cache) -> dict[str, Callable[[], int]]:
    """Each variant as a function that makes some hundred images and returns how many."""
    transform = v2.Compose(
        [
            v2.RandomResizedCrop(SIZE, scale=(0.5, 1.0), ratio=(1.0, 1.0), antialias=True),
            v2.RandomHorizontalFlip(0.5),
            v2.RandomApply([v2.ColorJitter(brightness=0.4, contrast=0.4)], p=0.8),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize([cache.mean], [cache.std]),
        ]
    )
    loader = StudyLoader(cache, cache.rows(), views_per_step=VIEWS_PER_STEP, seed=0)
    steps = loader.iterate()

    def decode() -> int:
        images = [transform(decode_image(read_file(str(path)), ImageReadMode.GRAY)) for path in paths]
        return len(torch.stack(images))

    def load() -> int:
        return sum(next(steps).micro_batches[0].num_views for _ in range(20))

    def augment() -> int:
        num_views = 0
        for _ in range(4):
            (batch,) = next(steps).micro_batches
            num_views += prepare(batch, size=SIZE, mean=cache.mean, std=cache.std, augment=AUGMENT).num_views
        return num_views

    return {"torchvision": decode, "packed": load, "augmented": augment}


def print_table(result: dict) -> None:
    table = Table(title=f"Loading {SIDE}-px images for a {SIZE}-px step, per core", title_justify="left")
    for name in ("", "images/s", "ratio", "wanted"):
        table.add_column(name, justify="right" if name else "left")
    for name, what in VARIANTS.items():
        ratio = f"{result['ratio'][name]:.1f}x" if name in TARGETS else ""
        wanted = f"{TARGETS[name]:.0f}x" if name in TARGETS else ""
        table.add_row(what, f"{result['images_per_cpu_second'][name]:,.0f}", ratio, wanted)
    Console().print(table)


if __name__ == "__main__":
    main()
