"""Does the report decoder describe the study it is shown? Its reports of held-out phantom studies, read by the rules.

A run of `mvmae_v2t` (`alignment.py`) writes a report of every test study; the rule labeller reads findings from it, and
their F1 against the study's true labels is compared with that of the same reports dealt to other patients' studies,
which is what the decoder would score if it were shown another study's images. BLEU-4 and ROUGE-L beside. Intervals draw
patients. Work is kept in runs/evidence, the result goes to results/report_reading.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
from rich.console import Console
from rich.table import Table

from evidence.alignment_arms import list_arms
from evidence.alignment_caches import WORK, name_archive, open_cache
from evidence.alignment_cell import name_cell
from hilum.config import load_config
from hilum.evaluate.bootstrap import LEVEL, NUM_RESAMPLES
from hilum.evaluate.describe import describe_studies
from hilum.evaluate.estimates import estimate_difference, estimate_scores
from hilum.evaluate.features import hash_weights
from hilum.evaluate.record import build_hashes
from hilum.evaluate.report_scores import deal
from hilum.evaluate.result import Estimate, Result, write_result
from hilum.evaluate.scores import Scores
from hilum.evaluate.task import Task, read_task
from hilum.labels import FINDINGS
from hilum.model.weights import load_encoder
from hilum.text.labeller import label_report
from hilum.text.overlap import score_bleu, score_rouge_l
from hilum.text.report_tokens import read_texts

ARM, SEED, DEALS = "V2T", 0, 20
RESULT = Path("results/report_reading/result.json")
OWN, OTHER = "own images", "another patient's images"


def main() -> None:
    """Write the reports that are missing, read them, score, write and print."""
    cache, task = open_cache("clean"), read_task(open_cache("clean"), "findings")
    run = WORK / "runs" / name_cell(list_arms()[ARM], SEED)
    written = run / "reports.parquet"
    if not written.exists():
        describe_studies(run, WORK / name_archive("clean"), written, split="test")
    texts = pl.read_parquet(written)["text"].to_list()
    rows = cache.rows("test")
    states = np.array([[label_report(text).get(finding) == 1 for finding in FINDINGS] for text in texts], float)
    scores = {
        OWN: score_states(task, rows, states[None]),
        OTHER: score_states(task, rows, np.stack([states[deal(task.patient[rows], turn)] for turn in range(DEALS)])),
    }
    estimates = [one for name, said in scores.items() for one in estimate_scores(said, ("f1",), slice=name)]
    estimates += estimate_difference(scores[OWN], scores[OTHER], ("f1",), slice=f"{OWN} minus {OTHER}")
    real = [text for text, _ in read_texts(cache, load_config(run / "config.json").text)]
    meant = [real[row] for row in rows]
    for name, order in {OWN: np.arange(len(rows)), OTHER: deal(task.patient[rows], 0)}.items():
        said = [texts[place] for place in order]
        estimates.append(Estimate("bleu_4", "report", score_bleu(said, meant), num=len(said), slice=name))
        rouge = float(score_rouge_l(said, meant).mean())
        estimates.append(Estimate("rouge_l", "report", rouge, num=len(said), slice=name))
    encoder, _ = load_encoder(run / "weights.safetensors")
    result = Result(
        encoder=ARM,
        task="findings of written reports",
        protocol={"kind": "greedy reports read by the rule labeller", "deals": DEALS, "different": len(set(texts))},
        seed=SEED,
        estimates=estimates,
        hashes=build_hashes(task, hash_weights(encoder)),
        counts={"test_studies": len(rows), "test_patients": len(np.unique(task.patient[rows]))},
        level=LEVEL,
        num_resamples=NUM_RESAMPLES,
    )
    write_result(RESULT, result)
    print_result(result)


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
