"""Does our own ECG encoder know more than what a reader measures? The superclass of 500 PTB-XL records by probe.

Arms, all by one protocol (logistic regression on standardised vectors, its strength from inner folds, three rounds of
five folds by patient): our encoder pretrained on these records without their labels (three seeds), the same networks
untrained, the waves of `ecg_waves.py`, both together, and shuffled labels. A method is judged by the mean of its seeds'
metrics; intervals and paired differences draw patients.

Needs PTB-XL's subset in HILUM_REAL_DATA (or ../shared/data); work is kept in runs/evidence/ecg, results go to
results/ecg_probe. Stop it at any time; it continues where it was.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from pydantic import TypeAdapter
from rich.console import Console
from rich.table import Table

from evidence.ecg_waves import NAMES, measure_waves
from hilum.checksums import hash_file, hash_parts
from hilum.config.ecg import EcgPretrainingConfig
from hilum.evaluate.features import ViewFeatures
from hilum.evaluate.probe.crossval import crossvalidate_probe
from hilum.evaluate.record import record_crossval
from hilum.evaluate.result import Result, dump_result, hash_code, read_result, write_json
from hilum.evaluate.scored import write_scored, write_scored_difference, write_scored_mean
from hilum.evaluate.task import Task
from hilum.model.ecg_encoder import EcgEncoder, load_ecg_encoder, pool_places
from hilum.signals.pretraining import pretrain_ecg
from hilum.signals.read import read_record
from hilum.signals.record import RecordSource
from hilum.signals.table import prepare_thin

SUPERCLASSES = ("NORM", "MI", "STTC", "CD", "HYP")
SEEDS = (0, 1, 2)
PRETRAINING_CODE = ("signals/pretraining.py", "objective/ecg.py", "objective/contrast.py", "model/ecg_encoder.py")
ROOT = Path(os.environ.get("HILUM_REAL_DATA", "../shared/data")) / "ptbxl"
WORK, RESULT = Path("runs/evidence/ecg"), Path("results/ecg_probe/result.json")
PRETRAINED, UNTRAINED, WAVES, BOTH = "pretrained", "untrained", "waves", "pretrained and waves"


@dataclass(frozen=True)
class Records:
    """PTB-XL's subset as arrays."""

    thinned: np.ndarray  # (record, 12, 1000)
    waves: np.ndarray  # (record, feature)
    task: Task


def main() -> None:
    """Everything that has no result yet; some twenty minutes of one core."""
    WORK.mkdir(parents=True, exist_ok=True)
    records = open_records()
    methods: dict[str, list[Path]] = {name: [] for name in (PRETRAINED, UNTRAINED, BOTH)}
    for seed in SEEDS:
        made_by = {"pretraining": dump_config(configure(seed))}
        vectors = embed_pretrained(records, seed)
        for name, values in (
            (PRETRAINED, vectors),
            (UNTRAINED, embed(build_untrained(seed), records.thinned)),
            (BOTH, np.concatenate([vectors, records.waves], axis=1)),
        ):
            about = {} if name == UNTRAINED else made_by
            methods[name].append(probe(f"{name}-{seed}", values, records.task, about))
    methods[WAVES] = [probe(WAVES, records.waves, records.task, {})]
    shuffled = probe("shuffled labels", records.waves, records.task, {}, shuffle_labels=True)
    means = {name: average(name, found) for name, found in methods.items()}
    differences = [
        subtract(means[first], means[second])
        for first, second in (
            (PRETRAINED, UNTRAINED), (PRETRAINED, WAVES), (UNTRAINED, WAVES), (BOTH, WAVES), (BOTH, PRETRAINED),
        )
    ]  # fmt: skip
    results = [read(folder) for folder in (*means.values(), shuffled)]
    write_json(
        RESULT,
        {
            "seeds": {name: [dump_result(read(folder)) for folder in found] for name, found in methods.items()},
            "results": [dump_result(result) for result in results],
            "differences": [dump_result(result) for result in differences],
        },
    )
    print_results(results, differences)


def configure(seed: int) -> EcgPretrainingConfig:
    return EcgPretrainingConfig(seed=seed, steps=1000)


def dump_config(config: EcgPretrainingConfig) -> dict[str, Any]:
    return TypeAdapter(EcgPretrainingConfig).dump_python(config, mode="json")


def open_records() -> Records:
    """Read and filter all records, or take what an earlier start of this program kept."""
    manifest = pl.read_csv(ROOT / "manifest.csv", infer_schema=False)
    digest = hash_parts([hash_file(ROOT / "manifest.csv"), hash_code(("signals/*.py",)), list(NAMES)])
    kept = WORK / f"records-{digest[:8]}.npz"
    if not kept.exists():
        sources = [RecordSource(ROOT / path) for path in manifest["path"]]
        found = prepare_thin(sources, title="ECGs")
        assert not found.rejected, found.rejected[0]
        waves = np.stack([measure_waves(read_record(source)) for source in sources])
        np.savez(kept, thinned=found.values, waves=waves)
    with np.load(kept) as stored:
        return Records(stored["thinned"], bound(stored["waves"]), read_superclasses(manifest, digest))


def bound(waves: np.ndarray) -> np.ndarray:
    """Missing measurements as the median, and none farther than four quartile ranges from it: one wrong T wave would
    otherwise be worth a hundred right ones."""
    median = np.nanmedian(waves, axis=0)
    spread = np.subtract(*np.nanpercentile(waves, [75, 25], axis=0))
    waves = np.where(np.isnan(waves), median, waves)
    return np.clip(waves, median - 4 * spread, median + 4 * spread).astype(np.float32)


def read_superclasses(manifest: pl.DataFrame, digest: str) -> Task:
    """The five diagnostic superclasses of PTB-XL; a record without any is unknown."""
    said = manifest["superclass"].fill_null("").str.split(";")
    target = np.array([[name in names for name in SUPERCLASSES] for names in said.to_list()], np.float32)
    target[target.sum(axis=1) == 0] = np.nan
    patient = manifest["patient_id"]
    return Task(
        name="superclass",
        unit="study",
        names=SUPERCLASSES,
        target=target,
        study=np.arange(len(manifest)),
        patient=patient.rank("dense").to_numpy().astype(np.int64),
        split=np.full(len(manifest), -1),
        group=patient,
        policy={},
        data=digest,
        notes=("Pretraining saw all of these records, without their labels.",),
    )


def build_untrained(seed: int) -> EcgEncoder:
    """The network that pretraining with this seed starts from."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return EcgEncoder(configure(seed).encoder)


def embed_pretrained(records: Records, seed: int) -> np.ndarray:
    config = configure(seed)
    out = WORK / f"run-{hash_parts([dump_config(config), hash_code(PRETRAINING_CODE)])[:8]}"
    pretrain_ecg(records.thinned, records.task.patient, out, config, resume=True)
    return embed(load_ecg_encoder(out / "weights.safetensors")[0], records.thinned)


@torch.inference_mode()
def embed(encoder: EcgEncoder, thinned: np.ndarray) -> np.ndarray:
    """Vectors of records at 100 Hz."""
    parts = [pool_places(encoder.eval().encode(torch.from_numpy(part))) for part in np.array_split(thinned, 10)]
    return torch.cat(parts).numpy()


def probe(name: str, vectors: np.ndarray, task: Task, made_by: dict[str, Any], *, shuffle_labels: bool = False) -> Path:
    """Cross-validate on folds that are the same for all arms, or take what an earlier start of this program found."""
    place = WORK / f"{name.replace(' ', '-')}-{hash_parts([vectors, task.target, shuffle_labels])[:8]}"
    if not (place / "result.json").exists():
        features = build_features(vectors, task, made_by)
        found = crossvalidate_probe(features, task, name=name, shuffle_labels=shuffle_labels)
        write_scored(place, record_crossval(found), found.scores)
    return place


def build_features(vectors: np.ndarray, task: Task, made_by: dict[str, Any]) -> ViewFeatures:
    """Vectors of records in the form in which probes read those of images: each record is a study of one view."""
    num = len(vectors)
    return ViewFeatures(
        class_token=np.zeros((num, 0), np.float32),
        mean=vectors.astype(np.float32),
        regions=np.zeros((num, 0, 1), np.float32),
        study=np.arange(num),
        view_kind=np.zeros(num, np.int64),
        view_row=np.arange(num),
        made_by={"cache": task.data, "weights": hash_parts([vectors]), **made_by},
    )


def average(name: str, found: Sequence[Path]) -> Path:
    """A method by the mean of its seeds' metrics."""
    if len(found) == 1:
        return found[0]
    write_scored_mean(WORK / f"mean-of-{name.replace(' ', '-')}", name, found)
    return WORK / f"mean-of-{name.replace(' ', '-')}"


def subtract(first: Path, second: Path) -> Result:
    """The paired difference of two methods."""
    folder = WORK / f"{first.name}-minus-{second.name}"
    write_scored_difference(folder, first, second)
    return read(folder)


def read(folder: Path) -> Result:
    return read_result(folder / "result.json")


def print_results(results: Sequence[Result], differences: Sequence[Result]) -> None:
    """Macro means with intervals, each superclass's AUROC, and what of it is a difference."""
    table = Table("arm", "macro AUROC", *SUPERCLASSES, "macro average precision", title="PTB-XL superclass by probe")
    for result in (*results, *differences):
        cells = [show(result, "auroc", of) for of in ("macro", *SUPERCLASSES)]
        table.add_row(result.encoder, *cells, show(result, "average_precision", "macro"))
    Console(width=160).print(table)


def show(result: Result, metric: str, of: str) -> str:
    found = result.find(metric, of)
    if found.value is None or found.low is None or found.high is None:
        return "-"
    sign = "+" if " - " in result.encoder else ""
    return f"{found.value:{sign}.3f}\n({found.low:{sign}.3f} to {found.high:{sign}.3f})"
