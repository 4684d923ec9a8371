"""How well the rule labeller reads real reports: Open-i's English ones, PadChest's Spanish ones, and the phantom's.

Open-i's reference is what its indexers assigned by hand (MeSH and RadLex headings, `label_maps/openi_mesh.csv`);
PadChest's are the labels of the studies that physicians read (`label_maps/padchest.csv`). Both are labels of the
report, so this measures reading, not radiology. Phrases were written and tuned on half of the reports; the other half,
by a hash of the patient, is what is scored here. (Before they were parted, some sixty Open-i reports of either half
were looked at for their form, and the words of all PadChest reports that physicians read were counted.) Who wrote the
phrases knew the phantom's grammar, and its reports showed faults in the rules for scopes and headings: its score says
that the two agree, not how new text is read.

A finding counts as found if it is stated present; the slice `uncertain=ones` counts uncertain ones too. Intervals draw
patients. Needs the tables in the torchxrayvision package.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import tarfile
import xml.etree.ElementTree as ET
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import resources
from pathlib import Path

import numpy as np
import polars as pl
from rich.console import Console
from rich.table import Column, Table

from hilum.checksums import hash_file, hash_parts
from hilum.evaluate.result import Estimate, Hashes, Result, hash_code, write_result
from hilum.evaluate.scoring.bootstrap import (
    LEVEL,
    NUM_RESAMPLES,
    WeightedMetric,
    average_resamples,
    resample_f1,
    resample_findings,
    weigh_findings,
)
from hilum.evaluate.scoring.estimates import build_estimate
from hilum.evaluate.scoring.metrics import MIN_POSITIVES
from hilum.labels import DISEASES, FINDINGS, map_openi, read_label_map
from hilum.phantom.clinic import label_states, plan_studies
from hilum.phantom.reports import write_report
from hilum.text.labeller import Language, label_report

RESULT = Path("results/report_labeller/result.json")
OPENI, PADCHEST = "NLMCXR_reports.tgz", "PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv.gz"
NUM_PHANTOM, PHANTOM_SEED = 2000, 20


@dataclass(frozen=True)
class Reports:
    """Reports with what they say of each finding: 1, 0, -1 or NaN."""

    name: str
    language: Language
    text: list[str]
    patient: np.ndarray
    reference: np.ndarray  # (report, finding)


def main() -> None:
    """Label, score, write and print; a minute or two."""
    folder = find_tables()
    sets = [
        read_openi(folder / OPENI),
        read_padchest(folder / PADCHEST),
        *(write_phantom(p) for p in ("train", "test")),
    ]
    estimates, counts = [], {}
    for reports in sets:
        said = label_reports(reports)
        estimates += score_reports(reports, said)
        counts[f"{reports.name}_reports"] = len(reports.text)
        counts[f"{reports.name}_patients"] = len(np.unique(reports.patient))
    phrases = [
        resources.files("hilum.text").joinpath(f"findings_{language}.toml").read_bytes() for language in ("en", "es")
    ]
    maps = [
        resources.files("hilum").joinpath(f"label_maps/{name}.csv").read_bytes() for name in ("openi_mesh", "padchest")
    ]
    result = Result(
        encoder="report labeller",
        task="findings of reports",
        protocol={
            "kind": "report labeller",
            "phrases": {"openi": "en", "padchest": "es", "phantom": "en"},
            "tuned_on": "the half of reports whose patient hashes to 0",
            "scored_on": "the half whose patient hashes to 1; all of the phantom",
            "min_positives": MIN_POSITIVES,
            "phantom": {"seed": PHANTOM_SEED, "studies": NUM_PHANTOM},
        },
        seed=0,
        estimates=estimates,
        hashes=Hashes(
            data=hash_parts([hash_file(folder / name) for name in (OPENI, PADCHEST)] + maps),
            split=hash_parts([np.sort(reports.patient.astype(str)).tolist() for reports in sets[:2]]),
            weights=hash_parts(phrases),
            code=hash_code(),
        ),
        counts=counts,
        level=LEVEL,
        num_resamples=NUM_RESAMPLES,
        notes=(
            "The references are labels of the report's text; Open-i's indexers wrote down findings that a report only "
            "suspects, and not all devices (sternal wires, clips).",
            "The phantom's grammar was known when the phrases were written: its scores are a check, not a measurement.",
        ),
    )
    write_result(RESULT, result)
    print_scores(result)


def find_tables() -> Path:
    """The data folder of torchxrayvision, without importing it."""
    found = importlib.util.find_spec("torchxrayvision")
    assert found is not None, "torchxrayvision is a development dependency"
    return Path(str(found.origin)).parent / "data"


def is_scored(patient: str) -> bool:
    """Whether a patient's reports are in the half that no phrase was tuned on."""
    return int(hashlib.sha256(patient.encode()).hexdigest(), 16) % 2 == 1


def read_openi(path: Path, keep: Callable[[str], bool] = is_scored) -> Reports:
    """Reports that somebody indexed and that have text; one for each patient."""
    texts, patients, states = [], [], []
    with tarfile.open(path) as archive:
        for member in sorted(archive.getnames()):
            if not member.endswith(".xml"):
                continue
            file = archive.extractfile(member)
            assert file is not None
            root = ET.parse(file).getroot()
            name = next(root.iter("uId")).get("id", "")
            part = {entry.get("Label"): (entry.text or "").strip() for entry in root.iter("AbstractText")}
            text = f"FINDINGS:\n{part['FINDINGS']}\n\nIMPRESSION:\n{part['IMPRESSION']}"
            terms = [(entry.text or "").strip() for entry in root.iter("major")]
            if keep(name) and terms != ["No Indexing"] and (part["FINDINGS"] or part["IMPRESSION"]):
                texts.append(text)
                patients.append(name)
                states.append([map_openi(terms)[finding] for finding in FINDINGS])
    return Reports("openi", "en", texts, np.array(patients), derive_no_finding(np.array(states, dtype=np.float32)))


def read_padchest(path: Path, keep: Callable[[str], bool] = is_scored) -> Reports:
    """Reports of studies that physicians labelled."""
    columns = ["StudyID", "PatientID", "MethodLabel", "Report", "Labels"]
    table = pl.read_csv(path, columns=columns, infer_schema=False).unique("StudyID", keep="first", maintain_order=True)
    table = table.filter((pl.col("MethodLabel") == "Physician") & (pl.col("Report").str.strip_chars() != ""))
    table = table.filter(pl.col("PatientID").map_elements(keep, return_dtype=pl.Boolean))
    labels = [ast.literal_eval(text) if text != "nan" else [] for text in table["Labels"]]
    states = read_label_map("padchest").map_rows(labels)
    readable = np.array(
        [bool(names) and not {"exclude", "suboptimal study"} & {n.strip() for n in names} for names in labels]
    )
    return Reports(
        "padchest",
        "es",
        table.filter(pl.Series(readable))["Report"].to_list(),
        table["PatientID"].to_numpy()[readable],
        derive_no_finding(states[readable]),
    )


def write_phantom(phrasing: str, num_studies: int = NUM_PHANTOM) -> Reports:
    """The phantom's reports in the words kept for training, or for testing."""
    plans = plan_studies(num_studies, PHANTOM_SEED)
    texts, states = [], []
    for plan in plans:
        stated = label_states(plan)
        report = write_report(plan, stated, "test" if phrasing == "test" else "train")
        texts.append(f"FINDINGS:\n{report['findings']}\n\nIMPRESSION:\n{report['impression']}\n")
        states.append([stated[finding] for finding in FINDINGS])
    reference = derive_no_finding(np.array(states, dtype=np.float32))
    patients = np.array([plan.patient for plan in plans])
    return Reports(f"phantom-{phrasing}", "en", texts, patients, reference)


def derive_no_finding(states: np.ndarray) -> np.ndarray:
    """No Finding as the labeller has it: no disease present or uncertain, devices allowed."""
    diseases = np.isin(FINDINGS, DISEASES)
    states[:, FINDINGS.index("No Finding")] = ~np.isin(states[:, diseases], (1, -1)).any(axis=1)
    return states


def label_reports(reports: Reports) -> np.ndarray:
    """Raw states (report, finding) as the labeller reads them; NaN not mentioned."""
    said = [label_report(text, reports.language) for text in reports.text]
    return np.array([[states.get(finding, np.nan) for finding in FINDINGS] for states in said], dtype=np.float32)


def resample_share(target: np.ndarray, decision: np.ndarray, weight: np.ndarray, of: str) -> np.ndarray:
    """Precision (`of` the decisions) or recall (`of` the targets) under multiplicities; NaN where there are none."""
    total = (decision if of == "decision" else target) @ weight
    return np.divide((target * decision) @ weight, total, out=np.full(len(total), np.nan), where=total > 0)


METRICS: dict[str, WeightedMetric] = {
    "precision": partial(resample_share, of="decision"),
    "recall": partial(resample_share, of="target"),
    "f1": resample_f1,
}


def score_reports(reports: Reports, said: np.ndarray) -> list[Estimate]:
    """Precision, recall and F1 of each finding and their means over those with enough positives."""
    target = (reports.reference == 1).astype(np.float32)
    decisions = {"": said == 1, ",uncertain=ones": (said == 1) | (said == -1)}
    _, patient = np.unique(reports.patient, return_inverse=True)
    positives = target.sum(axis=0).astype(int)
    enough = (positives >= MIN_POSITIVES) & (len(target) - positives >= MIN_POSITIVES)
    estimates = []
    for suffix, decision in decisions.items():
        decision, everybody = decision.astype(np.float32), np.ones((len(target), 1), np.float32)
        for name, metric in METRICS.items():
            values = weigh_findings(metric, target, decision, everybody)[:, 0]
            resampled = resample_findings(metric, target, decision, patient)
            where = f"archive={reports.name}{suffix}"
            estimates += [
                state_estimate(name, finding, values[i], resampled[i], len(target), int(positives[i]), where)
                for i, finding in enumerate(FINDINGS)
            ]
            macro = state_estimate(
                name,
                "macro",
                values[enough].mean(),
                average_resamples(resampled[enough]),
                int(enough.sum()),
                None,
                where,
            )
            estimates.append(macro)
    if reports.name.startswith("phantom"):
        estimates += score_states(reports, said, patient)
    return estimates


def score_states(reports: Reports, said: np.ndarray, patient: np.ndarray) -> list[Estimate]:
    """Share of reports whose state (present, absent, uncertain, not mentioned) is read exactly; No Finding apart."""
    same = ((said == reports.reference) | (np.isnan(said) & np.isnan(reports.reference))).astype(np.float32)
    share: WeightedMetric = lambda target, decision, weight: (target @ weight) / weight.sum(axis=0)  # noqa: E731
    values = weigh_findings(share, same, same, np.ones((len(same), 1), np.float32))[:, 0]
    resampled = resample_findings(share, same, same, patient)
    return [
        state_estimate("state_accuracy", finding, values[i], resampled[i], len(same), None, f"archive={reports.name}")
        for i, finding in enumerate(FINDINGS)
        if finding != "No Finding"
    ]


def state_estimate(
    metric: str, of: str, value: float, resampled: np.ndarray, num: int, positives: int | None, where: str
) -> Estimate:
    """A number with its interval; none where there was nothing to divide by."""
    reason = "nothing to divide by" if np.isnan(value) else None
    return build_estimate(metric, of, value, resampled, num, positives, where, reason)


def print_scores(result: Result) -> None:
    """A table for each set of reports, of what is stated present."""
    console = Console(highlight=False, width=100)
    for name in dict.fromkeys(estimate.slice for estimate in result.estimates if "," not in estimate.slice):
        table = Table(name, *(Column(head, justify="right") for head in ("positives", *METRICS)))
        for finding in (*FINDINGS, "macro"):
            found = [result.find(metric, finding, name) for metric in METRICS]
            table.add_row(finding, str(found[0].positives or ""), *(format_estimate(estimate) for estimate in found))
        console.print(table)


def format_estimate(estimate: Estimate) -> str:
    if estimate.value is None:
        return "-"
    ends: Sequence[float | None] = (estimate.low, estimate.high)
    return f"{estimate.value:.3f}" + "".join(f" {end:.3f}" for end in ends if end is not None)


if __name__ == "__main__":
    main()
