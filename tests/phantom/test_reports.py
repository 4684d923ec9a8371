"""What the reports say is what the labels say: read back by a small labeller that knows no grammar, only words."""

from __future__ import annotations

import re
from collections import Counter
from itertools import repeat

import pytest

from hilum.labels import FINDINGS
from hilum.phantom.clinic import OPACITIES
from hilum.phantom.reports import count_phrases, read_phrases, write_report

# In the manner of the CheXpert labeller: words that mention a finding, cues in the same sentence that deny or hedge it.
MENTIONS = {
    "Atelectasis": r"atelectasis|volume loss|collapse",
    "Cardiomegaly": r"cardiomegaly|cardiac enlargement|heart enlargement|enlargement of the (heart|cardiac silhouette)"
    r"|(heart|cardiac silhouette) is (not )?(enlarged|normal)|heart size|cardiothoracic ratio",
    "Consolidation": r"consolidati",
    "Edema": r"edema|congestion|pulmonary vasculature",
    "Enlarged Cardiomediastinum": r"mediastin|cardiomediastin",
    "Fracture": r"fracture|broken|osseous|bones",
    "Lung Lesion": r"nodul|\bmass\b|\bmasses\b|lesion",
    "Lung Opacity": r"opaci|infiltrate|lungs are clear",
    "Pleural Effusion": r"effusion|pleural fluid|fluid in the|costophrenic|free of fluid",
    "Pleural Other": r"thicken|plaque",
    "Pneumonia": r"pneumoni",
    "Pneumothorax": r"pneumothorax|pleural air|air in the",
    "Support Devices": r"\btube|catheter|central line|\bport\b|pacemaker|\bdrain|wires|device|hardware|intubated"
    r"|lines or",
    "No Finding": r"no acute (cardiopulmonary|intrathoracic)|normal chest|unremarkable examination|acute disease",
}
DENIED = r"\bno\b|\bnot\b|negative for|normal|unremarkable|intact\.|resol|cleared|are clear|free of|within normal"
HEDGED = r"possible|may be|cannot be excluded|questionable|could represent|equivocal|suspected|rule out"


PHRASINGS = ("train", "test")


def label_text(text: str) -> dict[str, int | None]:
    states: dict[str, int | None] = dict.fromkeys(FINDINGS)
    for sentence in re.split(r"(?<=[.:;])\s+", text.lower()):
        for finding, pattern in MENTIONS.items():
            if not re.search(pattern, sentence):
                continue
            state = -1 if re.search(HEDGED, sentence) else 0 if re.search(DENIED, sentence) else 1
            if finding == "No Finding" or (finding == "Support Devices" and "intact" in sentence):
                state = 1
            held = states[finding]
            states[finding] = state if held is None else max(held, state, key=(0, -1, 1).index)
    if any(states[finding] == 1 for finding in OPACITIES):
        states["Lung Opacity"] = 1
    return states


@pytest.fixture(scope="module")
def reports(plans, labels) -> dict[str, list[dict[str, str]]]:
    return {phrasing: list(map(write_report, plans, labels, repeat(phrasing))) for phrasing in PHRASINGS}


@pytest.mark.parametrize("phrasing", PHRASINGS)
def test_every_state_can_be_read_back(labels, reports, phrasing) -> None:
    seen: Counter = Counter()
    for states, report in zip(labels, reports[phrasing], strict=True):
        text = f"{report['findings']} {report['impression']}"
        assert label_text(text) == states, text
        seen.update(states.items())
    for finding in MENTIONS:  # the test means something only where each state was written
        assert seen[finding, 1] > 10, finding


def test_side_and_severity_are_those_of_the_body(plans, labels, reports) -> None:
    num_sides = 0
    for plan, states, report in zip(plans, labels, reports["train"], strict=True):
        lesions = [lesion for lesion in plan.lesions if lesion.finding == "Pneumothorax"]
        if lesions and states["Pneumothorax"] == 1:
            (sentence,) = re.findall(r"[^.]*pneumothorax[^.]*\.", report["findings"], flags=re.IGNORECASE)
            assert f"{lesions[0].side} " in sentence.lower()
            for word, low, high in (("tiny", 0.0, 0.25), ("small", 0.25, 0.5), ("large", 0.75, 1.01)):
                if word in sentence.lower():
                    assert low <= lesions[0].severity < high
            num_sides += 1
    assert num_sides > 20


def test_comparison_is_with_what_was_there_before(plans, reports) -> None:
    num_resolved = 0
    for plan, report in zip(plans, reports["train"], strict=True):
        if plan.prior is None:
            assert not re.search(
                r"stable|unchanged|increased|decreased|resol|prior study\.", report["findings"].lower()
            )
        num_resolved += "resol" in report["findings"].lower()
    assert num_resolved > 5


def test_words_kept_for_testing_are_never_trained_on(reports) -> None:
    counts = count_phrases()
    assert 0.25 < counts["test"] / (counts["train"] + counts["test"]) < 0.45  # the registered share
    kept = ("pleural air", "volume loss", "pneumonic change", "cerclage", "pleural fluid", "equivocal", "we observe")
    for phrasing, expected in (("train", False), ("test", True)):
        text = " ".join(f"{report['findings']} {report['impression']}" for report in reports[phrasing]).lower()
        for words in kept:
            assert (words in text) == expected, words


def test_no_phrase_is_in_both_phrasings() -> None:
    def walk(node) -> None:
        if isinstance(node, dict):
            if "train" in node:
                assert not set(node["train"]) & set(node.get("test", [])), node
            for child in node.values():
                walk(child)

    walk(read_phrases())


def test_text_is_clean_varied_and_the_same_each_time(plans, labels, reports) -> None:
    for phrasing in PHRASINGS:
        assert reports[phrasing][:50] == list(map(write_report, plans[:50], labels, repeat(phrasing)))
        for text in (text for report in reports[phrasing] for text in report.values()):
            assert text
            assert not re.search(r"\s{2}|\s[.,)]|[\[\]{}|]|\ba [aeiou]|\ba an?\b|^[a-z]|[.] [a-z]", text), text
        assert len({report["findings"] for report in reports[phrasing]}) > 0.75 * len(plans)
