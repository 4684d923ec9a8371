"""Does the controller hold alignment's share of the pull on the encoder, and how weak was the released code's?

Read from the metrics.jsonl of real runs (M 8-20, M 9-1).
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from statistics import geometric_mean

import polars as pl
import pytest

from hilum.cache import Cache
from hilum.cache.writer import build_cache
from hilum.config import Config
from hilum.identifiers import Naming
from hilum.recipes import Preset, build_recipe
from hilum.sources.table import ingest_table
from hilum.study import read_studies, write_studies
from hilum.training.pretrain import pretrain
from tiny_runs import build_tiny, read_metrics
from toy_archive import make_cache

RATIO = "alignment/full_gradient_ratio"


def train(config: Config, cache: Cache, out: Path, *, steps: int, per_step: int, measure_every: int) -> list[float]:
    """Alignment's pull over reconstruction's, both with their full weights, at each measurement of a short run."""
    config = replace(
        config,
        data=replace(config.data, views_per_step=per_step),
        optim=replace(config.optim, lr=3e-4, steps=steps, warmup=0.0, warmup_start=0.0, per_epoch=False),
        run=replace(config.run, precision="32-true", log_every=steps, meter_every=measure_every, checkpoint_every=None),
    )
    lines = read_metrics(pretrain(config, cache.path, out))
    return [line[RATIO] for line in lines if RATIO in line]


def test_controller_brings_a_short_run_to_its_target(tmp_path: Path) -> None:
    cache = make_cache(tmp_path, [2] * 8, split=["train"] * 8)
    ratios = train(build_tiny(), cache, tmp_path / "run", steps=60, per_step=16, measure_every=3)
    assert ratios[0] > 0.2  # far from it at the start
    assert geometric_mean(ratios[-8:]) == pytest.approx(0.3, rel=0.2)


@pytest.fixture(scope="module")
def pairs(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Cache:
    """The first frontal and the first lateral of every real study that has both, all to be trained on."""
    folder = tmp_path_factory.mktemp("pairs")
    ingest_table(
        real_data / "cxr_multiview" / "manifest.csv",
        folder / "all.parquet",
        columns={"group": "patient_group"},
        dataset="pairs",
        naming=Naming(salt="the set is public"),
    )
    studies = read_studies(folder / "all.parquet")
    kind = pl.element().struct.field("kind")
    of_kind = [pl.col("views").list.eval(pl.element().filter(kind == name)) for name in ("frontal", "lateral")]
    both = pl.all_horizontal([views.list.len() > 0 for views in of_kind])
    pair = pl.concat_list([views.list.head(1) for views in of_kind])
    studies = studies.filter(both).with_columns(pair.alias("views"), pl.lit("train").alias("split"))
    assert len(studies) == 46
    write_studies(studies, folder / "pairs.parquet")
    build_cache(folder / "pairs.parquet", folder / "cache", workers=0, short_side=112, progress=False)
    return Cache.open(folder / "cache")


@pytest.mark.soak
@pytest.mark.needs_real_data
@pytest.mark.parametrize("preset", ["hilum", "code"])
def test_share_of_alignment_after_200_steps_on_real_pairs(pairs: Cache, preset: Preset, tmp_path: Path) -> None:
    config = build_recipe("mvmae", preset, "tiny")
    config = replace(config, encoder=replace(config.encoder, image_size=112, patch_size=8))
    ratios = train(config, pairs, tmp_path / "run", steps=200, per_step=16, measure_every=5)
    print(preset, [round(ratio, 4) for ratio in ratios])
    if preset == "code":  # at its full final weight; M 8-20: 0.036 at the start, 0.004 after 240 steps
        assert geometric_mean(ratios[-10:]) < 0.02
    else:
        assert geometric_mean(ratios[-10:]) == pytest.approx(0.3, rel=0.2)
