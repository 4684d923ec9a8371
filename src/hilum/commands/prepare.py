"""What comes before learning: the demo and the phantom, the cache, a check of the installation."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from annotated_types import Ge
from tyro.conf import Positional

from hilum.commands.terminal import say_next
from hilum.cores import count_cores
from hilum.errors import UserError
from hilum.ranges import Count, Positive, Seed, Workers
from hilum.vocabulary import MODALITIES


def demo(out: Path = Path("runs/demo"), studies: Count = 2000, steps: Count = 800, workers: Workers = 0) -> int:
    """Walk the whole road on the embedded phantom; ends with a report.

    Args:
        out: Folder for everything the demo makes; running again continues there.
        studies: Phantom studies to make.
        steps: Optimiser steps of pretraining.
        workers: Processes for making and reading images; 0: one per core.
    """
    from hilum.demo import run_demo

    return run_demo(out, num_studies=studies, steps=steps, workers=workers or count_cores())


def phantom(
    out: Path,
    studies: Count = 1000,
    seed: Seed = 0,
    size: Annotated[int, Ge(16)] | None = None,
    workers: Workers = 0,
    masks: bool = False,
    physiology: bool = False,
    breast: bool = False,
    patients: Count = 200,
    enrichment: Positive = 1.0,
) -> int:
    """Write an archive of synthetic studies: real DICOM files, reports, findings.

    Args:
        out: Folder for the archive.
        studies: Number of chest studies.
        seed: Another seed gives other patients.
        size: Rows of an image, in pixels; without it 256 (chest) or 760 (breast, whose columns are 0.6 of it).
        workers: Processes; 0: one per core.
        masks: Also write masks of heart, lungs, bones and lesions, and the true severities.
        physiology: Also write an ECG and laboratory values of most studies, and targets that show in them and, some
            strongly, some faintly, some not at all, in the images.
        breast: Mammograms instead of chests: CC and MLO, tables as VinDr-Mammo and RSNA have them, and outcomes.
        patients: With --breast: number of women; each has one to three exams.
        enrichment: With --breast: times as many cancers and unclear findings as in screening.
    """
    if breast:
        if physiology:
            raise UserError("--physiology belongs to chest studies: leave it or --breast out.")
        from hilum.phantom.breast.archive import write_archive as write_breasts

        write_breasts(
            out, patients, seed=seed, size=size or 760, workers=workers or count_cores(), masks=masks,
            enrichment=enrichment,
        )  # fmt: skip
        return 0
    from hilum.phantom.archive import write_archive

    write_archive(
        out, studies, seed=seed, size=size or 256, workers=workers or count_cores(), masks=masks, physiology=physiology
    )
    labs = ("--labs.file", out / "laboratory.csv") if physiology else ()
    say_next("ingest", "table", out / "studies.csv", *labs, "--out", "studies.parquet")
    return 0


def cache(
    studies: Positional[Path],
    out: Path,
    workers: Workers = 0,
    short_side: Count = 256,
    bits: Literal[8, 16] = 8,
    policy: str = "voi-1",
    frame: tuple[Count, Count] | None = None,
    take: tuple[Literal["spot", "displaced", "synthetic", "secondary", "processing"], ...] = (),
    modalities: tuple[str, ...] = MODALITIES,
    allow_burned_in: bool = False,
    worker: str | None = None,
    split_rule: Literal["threshold", "rank"] = "threshold",
    fractions: tuple[float, float, float] = (0.8, 0.1, 0.1),
) -> int:
    """Decode a study table's images once into memory-mapped shards.

    Args:
        studies: Study table (Parquet) from `hilum ingest`.
        out: Folder for the cache; running again continues where a kill stopped it.
        workers: Processes; 0: one per core.
        short_side: Shorter side of the kept image, in pixels; smaller images are never enlarged.
        bits: Bits kept per pixel.
        policy: How stored values become grey. voi-1: by the file's own window; range-1: from least to largest value.
            Of mammograms, which are also cut to the breast, turned and framed: mammo-auto-1 (by the file's own window),
            mammo-minmax-1, mammo-percentile-1, mammo-none-1 (all that the bits allow). mammo-clip-1 cuts and
            stretches as Mammo-CLIP does, for comparison with it.
        frame: Height and width that breasts are fitted into, in pixels; by default 1520 912. Never enlarged.
        take: Special mammograms that are taken too: spot or magnification views, implant-displaced ones, images
            computed from tomosyntheses, secondary captures that are no digitised film, raw detector values.
        modalities: DICOM modalities that are taken; "" takes files whose header names none.
        allow_burned_in: Also take images that say they have text burned in.
        worker: Share of a cluster's job array, as "i/n" with i from 0.
        split_rule: For patients without an official split. threshold: adding studies moves nobody; rank: exact counts.
        fractions: Shares of training, validation and test patients.
    """
    from hilum.cache.writer import build_cache

    built = build_cache(
        studies,
        out,
        workers=workers or count_cores(),
        short_side=short_side,
        bits=bits,
        policy=policy,
        frame=frame,
        take=take,
        modalities=modalities,
        allow_burned_in=allow_burned_in,
        worker=worker,
        split_rule=split_rule,
        split_fractions=dict(zip(("train", "val", "test"), fractions, strict=True)),
    )
    if built.is_whole:  # of a job array, only the last to finish goes on
        from hilum.cache import SPLITS, Cache
        from hilum.overlap.perceptual_hash import hash_views

        made = Cache.open(out)
        hash_views(made)  # a fraction of the time of decoding, and no training has to wait for it
        print("Splits: " + ", ".join(f"{len(made.rows(split)):,} {split}" for split in SPLITS) + " studies")
        if made.is_of_mammograms:
            say_next("text", "write", out, "--out", "texts.parquet")  # by which the recipes of breasts learn
        else:
            say_next("pretrain", "mvmae", "--data", out, "--out", "runs/first")
    return 3 if built.num_rejected else 0


def overlap(one: Positional[Path], other: Positional[Path]) -> int:
    """Look for what two collections share: patients, images, and copies of images; exit code 3 if anything.

    Args:
        one: Cache folder, or study table (Parquet).
        other: Another. Copies in other pixels (windowed, resized, compressed anew) are found between two caches.
    """
    from hilum.overlap.compare import find_overlap

    shared = find_overlap(one, other)
    print(f"Of {one}, {other} has {shared}.")
    return 0 if shared.is_empty else 3


def doctor(path: Positional[Path | None] = None) -> int:
    """Check this installation; with a path, also the checksums of a cache or the files of a run.

    Args:
        path: Cache or run folder.
    """
    from hilum.doctor import run_checks

    return run_checks(path)
