"""Does the report decoder describe the study it is shown? Its reports of held-out phantom studies, read by the rules.

A run of `mvmae_v2t` (`alignment.py`; pretrained again where it is no longer there) writes a report of every test study;
the rule labeller reads findings from it, and their F1 against the study's true labels is compared with that of the same
reports dealt to other patients' studies, which is what the decoder would score if it were shown another study's images.
BLEU-4 and ROUGE-L beside. Intervals draw patients. The result goes to results/report_reading.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
from rich.console import Console
from rich.table import Table

from evidence.alignment_arms import PRESETS, list_arms
from evidence.alignment_caches import WORK, name_archive, open_cache, prepare_caches
from evidence.alignment_cell import pretrain_arm
from hilum.checksums import hash_weights
from hilum.config import Config, dump_config, parse_config
from hilum.evaluate.describe import describe_studies
from hilum.evaluate.record import build_hashes
from hilum.evaluate.result import Estimate, Result, read_result, write_result
from hilum.evaluate.scoring.bootstrap import LEVEL, NUM_RESAMPLES
from hilum.evaluate.scoring.dealing import deal
from hilum.evaluate.scoring.estimates import estimate_difference, estimate_scores
from hilum.evaluate.scoring.scores import Scores
from hilum.evaluate.task import Task, read_task
from hilum.labels import FINDINGS
from hilum.model.weights import load_encoder
from hilum.text.labeller import label_report
from hilum.text.overlap import score_bleu, score_rouge_l
from hilum.text.report_tokens import read_texts

SEED, DEALS = 0, 20
RESULT = Path("results/report_reading/result.json")
OWN, OTHER = "own images", "another patient's images"


def main() -> None:
    """Write the reports that are missing, read them, score, write and print."""
    name = next(arm for arm, preset in PRESETS.items() if preset == "mvmae_v2t, hilum")
    arm = list_arms()[name]
    config = replace(arm.config, seed=SEED)
    if not RESULT.exists() or parse_config(read_result(RESULT).protocol["settings"]) != config:
        prepare_caches()
        run = pretrain_arm(arm, SEED)
        written = run / "reports.parquet"
        if not written.exists():
            describe_studies(run, WORK / name_archive("clean"), written, split="test")
        write_result(RESULT, read_reports(pl.read_parquet(written)["text"].to_list(), run, name, config))
    print_result(read_result(RESULT))


def read_reports(texts: list[str], run: Path, name: str, config: Config) -> Result:
    """Scores of reports of the test studies, in the cache's order."""
    cache = open_cache("clean")
    task, rows = read_task(cache, "findings"), cache.rows("test")
    states = np.array([[label_report(text).get(finding) == 1 for finding in FINDINGS] for text in texts], float)
    scores = {
        OWN: score_states(task, rows, states[None]),
        OTHER: score_states(task, rows, np.stack([states[deal(task.patient[rows], turn)] for turn in range(DEALS)])),
    }
    estimates: list[Estimate] = []
    for slice, said in scores.items():
        estimates += estimate_scores(said, ("f1",), slice=slice)
    estimates += estimate_difference(scores[OWN], scores[OTHER], ("f1",), slice=f"{OWN} minus {OTHER}")
    real = [text for text, _ in read_texts(cache, config.text)]
    meant = [real[row] for row in rows]
    for slice, order in {OWN: np.arange(len(rows)), OTHER: deal(task.patient[rows], 0)}.items():
        said = [texts[place] for place in order]
        estimates.append(Estimate("bleu_4", "report", score_bleu(said, meant), num=len(said), slice=slice))
        rouge = float(score_rouge_l(said, meant).mean())
        estimates.append(Estimate("rouge_l", "report", rouge, num=len(said), slice=slice))
    encoder, _ = load_encoder(run / "weights.safetensors")
    return Result(
        encoder=name,
        task="findings of written reports",
        protocol={
            "kind": "greedy reports read by the rule labeller",
            "deals": DEALS,
            "different": len(set(texts)),
            "settings": dump_config(config),
        },
        seed=SEED,
        estimates=estimates,
        hashes=build_hashes(task, hash_weights(encoder)),
        counts={"test_studies": len(rows), "test_patients": len(np.unique(task.patient[rows]))},
        level=LEVEL,
        num_resamples=NUM_RESAMPLES,
    )


def score_states(task: Task, rows: np.ndarray, states: np.ndarray) -> Scores:
    """Findings read from reports (deal, study, finding) against the studies' labels."""
    return Scores(
        names=task.names,
        target=task.target[rows],
        logit=states,
        decision=states,
        patient=task.patient[rows],
        row=rows,
    )


def print_result(result: Result) -> None:
    """F1 of each finding by own and by other images, and the margin."""
    table = Table("finding", OWN, OTHER, "margin (95 % interval)", title="F1 of findings in written reports")
    for finding in (*FINDINGS, "macro"):
        found = [result.find("f1", finding, name) for name in (OWN, OTHER, f"{OWN} minus {OTHER}")]
        if any(one.value is None for one in found):
            continue
        own, other, margin = found
        table.add_row(
            finding,
            f"{own.value:.3f}",
            f"{other.value:.3f}",
            f"{margin.value:+.3f} ({margin.low:+.3f} to {margin.high:+.3f})",
        )
    Console().print(table)


if __name__ == "__main__":
    main()
