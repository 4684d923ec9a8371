"""How far written reports say what the real ones say, and how far they would say it of any patient.

Reports of one hospital are alike: much of an overlap of words or findings comes without a look at the images. So each
score stands beside those of reports dealt to other patients' studies of the same archive, which know nothing of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import get_args

import numpy as np
import polars as pl
from jaxtyping import Bool, Float32, Integer
from rich.markup import escape
from rich.table import Table

from hilum.labels import FINDINGS
from hilum.text.labeller import Language, label_report
from hilum.text.overlap import FindingF1, prepare_bleu, score_finding_f1, score_rouge_l

from .scoring.dealing import can_deal, deal

WRITTEN = "written"
WRITTEN_DEALT, REAL_DEALT = "written, dealt", "real, dealt"  # to another patient's study


@dataclass(frozen=True)
class Agreement:
    """What texts have in common with the real reports of an archive's studies, 0 to 1."""

    archive: str
    texts: str  # WRITTEN, WRITTEN_DEALT or REAL_DEALT
    num: int  # studies with a real report
    bleu: float
    rouge_l: float  # mean over studies
    findings: FindingF1 | None  # by the rules, of both texts; None: in a language without rules
    num_silent: int | None  # texts that name no finding, present or absent, and so count as No Finding; None as above


def read_language(written: str | None) -> Language | None:
    """The language whose rules read a report, from what its archive says ("es", "en-GB"; nothing is English); None
    where there are no rules for it."""
    said = (written or "en").strip().lower().replace("_", "-").partition("-")[0]
    return next((language for language in get_args(Language) if language == said), None)


def read_states(
    texts: Sequence[str], languages: Sequence[Language | None]
) -> Float32[np.ndarray, "study finding"] | None:
    """Findings that reports state by the rules, raw (1, 0, -1, NaN not mentioned); None if one has no rules."""
    if None in languages:
        return None
    found = [label_report(text, language or "en") for text, language in zip(texts, languages, strict=True)]
    rows = [[states.get(finding, np.nan) for finding in FINDINGS] for states in found]
    return np.array(rows, np.float32).reshape(len(texts), len(FINDINGS))


def find_silent(states: Float32[np.ndarray, "study finding"]) -> Bool[np.ndarray, " study"]:
    """Reports that name no finding, present, uncertain or absent: by CheXpert's rule these state No Finding.

    So "no acute disease" does, but so does a text without sense: the F1 of No Finding is no sign that words mean much.
    """
    others = np.delete(states, FINDINGS.index("No Finding"), axis=1)
    return (states[:, FINDINGS.index("No Finding")] == 1) & np.isnan(others).all(axis=1)


def list_silent(texts: Sequence[str], languages: Sequence[Language | None]) -> list[bool | None]:
    """`find_silent` of each text; None in a language without rules."""
    known = [place for place, language in enumerate(languages) if language is not None]
    states = read_states([texts[place] for place in known], [languages[place] for place in known])
    assert states is not None
    found = dict(zip(known, find_silent(states).tolist(), strict=True))
    return [found.get(place) for place in range(len(texts))]


def score_reports(
    written: Sequence[str],
    real: Sequence[str],
    *,
    archive: Sequence[str],
    patient: Integer[np.ndarray, " study"],
    language: Sequence[Language | None],
) -> list[Agreement]:
    """Agreement of written with real reports, archive by archive: of the written ones, of those dealt to studies of
    other patients, and of other patients' real reports.

    Args:
        written, real: of each study; an empty real one is none, and its study does not count.
        language: of the study's reports; findings are read where an archive's are all of languages with rules.
    """
    scored = []
    for name in dict.fromkeys(archive):
        rows = [row for row, (of, text) in enumerate(zip(archive, real, strict=True)) if of == name and text.strip()]
        if not rows:
            continue
        spoken = [language[row] for row in rows]
        sides = {WRITTEN: [written[row] for row in rows], REAL_DEALT: [real[row] for row in rows]}
        states = {side: read_states(texts, spoken) for side, texts in sides.items()}
        own = np.arange(len(rows))
        orders = [(WRITTEN, WRITTEN, own)]
        if can_deal(patient[rows]):
            given = deal(patient[rows], 0)
            orders += [(WRITTEN_DEALT, WRITTEN, given), (REAL_DEALT, REAL_DEALT, given)]
        meant, truth = sides[REAL_DEALT], states[REAL_DEALT]
        score_bleu = prepare_bleu(meant)
        for title, side, order in orders:
            said, stated = [sides[side][place] for place in order], states[side]
            findings = None if stated is None or truth is None else score_finding_f1(stated[order], truth)
            rouge = float(score_rouge_l(said, meant).mean())
            num_silent = None if stated is None else int(find_silent(stated).sum())
            scored.append(Agreement(name, title, len(rows), score_bleu(said), rouge, findings, num_silent))
    return scored


def list_languages(table: pl.DataFrame) -> list[Language | None]:
    """Of each study of a cache's table, by its column extra_language, which archives not in English have."""
    if "extra_language" not in table.columns:
        return ["en"] * len(table)
    return [read_language(said) for said in table["extra_language"].to_list()]


def describe_silent(scored: Sequence[Agreement]) -> str:
    """How many written and real reports name no finding, for those who read F1; empty where findings are not read."""
    counts = {
        texts: f"{sum(one.num_silent or 0 for one in part):,} of the {sum(one.num for one in part):,} {texts}"
        for texts in (WRITTEN, REAL_DEALT)
        if (part := [one for one in scored if one.texts == texts and one.num_silent is not None])
    }
    if not counts:
        return ""
    said = " and ".join(counts.values()).replace(REAL_DEALT, "real")
    return (
        f"{said} reports name no finding, present or absent, and so count as No Finding (CheXpert's rule): those that "
        "say that all is normal, and those that say nothing."
    )


def tabulate_agreement(scored: Sequence[Agreement]) -> Table:
    """The scores for a terminal, in percent."""
    table = Table(
        "archive", "reports", "studies", "BLEU-4", "ROUGE-L", "F1 micro", "F1 macro",
        title="Against the real reports, in percent", title_justify="left",
    )  # fmt: skip
    for column in table.columns[2:]:
        column.justify = "right"
    for one in scored:
        values = [one.bleu, one.rouge_l, *((one.findings.micro, one.findings.macro) if one.findings else (np.nan,) * 2)]
        shown = ["-" if np.isnan(value) else f"{100 * value:.1f}" for value in values]
        table.add_row(escape(one.archive), one.texts, f"{one.num:,}", *shown)
    return table
