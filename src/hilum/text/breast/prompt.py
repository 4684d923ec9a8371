"""What a language model is told of a breast: rules, the record without ids, and what the text must keep to (L 2.4)."""

from __future__ import annotations

import json
from typing import Any

from hilum.text.writers.language_model import ChatPrompt, Request, SamplingParams

from .record import BreastRecord, describe_record, hash_description, hash_record

VERSION = "1"  # of the words below; another one asks anew
MAX_SENTENCES = 8
_SEED_RANGE = 2**31 - 1  # what every server takes

SYSTEM = (
    "You are a radiologist who dictates the mammography report of one breast. You write down exactly the facts you are "
    "given, in English, as plain text, and nothing else."
)
ROLES = (
    "Dictate a short report in full sentences.",
    "Write the findings, then the impression, in a terse style.",
    "Write an informal dictation without headings, the assessment first.",
    "Write a report in varied wording, as another radiologist would.",
)
RULES = (
    f"Use only these facts and all of them, in at most {MAX_SENTENCES} sentences. What is not listed is not known: do "
    "not mention it, neither as present nor as absent. Deny only what stands under known_absent. Name the side, the "
    "density and the BI-RADS category as given. No dates, names, ages, comparisons, recommendations, causes or "
    "diagnoses. No headings, lists or markdown, no introduction and no closing remark."
)


def build_request(record: BreastRecord, variant: int, attempt: int, **params: Any) -> Request:
    """The request for one variant of a record's text; each attempt has a seed of its own.

    Args:
        params: of `SamplingParams`, but for the seed.
    """
    seed = (hash_record(record) + 1_000_003 * variant + 7_919 * attempt) % _SEED_RANGE
    return Request(
        build_prompt(record, variant), SamplingParams(seed=seed, **params), VERSION, hash_description(record)
    )


def build_prompt(record: BreastRecord, variant: int) -> ChatPrompt:
    """Role, facts and rules; the role goes by the variant."""
    facts = json.dumps(list_facts(record), indent=1)
    return ChatPrompt(SYSTEM, f"{ROLES[variant % len(ROLES)]}\n\nFacts:\n{facts}\n\n{RULES}")


def list_facts(record: BreastRecord) -> dict[str, Any]:
    """The record as a model sees it: no ids, no outcome, nothing that is not recorded."""
    described = describe_record(record)
    suspicious = "suspicious " if record.exhaustive_for == "suspicious" else ""
    facts = {
        "side": record.laterality,
        "views": [view.upper() for view in record.views],
        "breast_density_category": record.density.upper() if record.density else None,
        "bi_rads_category": record.assessment,
        "findings": described["findings"],
        "known_absent": [f"{suspicious}{name}" for name in described["absent"]],
    }
    return {name: value for name, value in facts.items() if value not in (None, [])}
