"""Words for a phantom study: a grammar over `phrases.toml` that says the raw label states and nothing else.

Each finding of state 1 is said with its side, place, severity and, where the patient has an earlier study, its change;
-1 is hedged; 0 is denied, alone or in a list, or said to have resolved; a blank finding is not named. Where a child of
Lung Opacity is said, the opacity is implied by it and gets a sentence only if the body has an opacity of its own.

The phrasing "test" prefers phrases that "train" never uses, so that a text model's generalisation to new words can be
measured; the share of such phrases is registered by `count_phrases` and fixed with the settings' hash.
"""

from __future__ import annotations

import functools
import re
import tomllib
from collections.abc import Mapping
from importlib import resources
from typing import Any, Literal

from hilum.labels import FINDINGS
from hilum.phantom.clinic import OPACITIES, SIDE_SHARES, ZONE_SHARES, find_severities
from hilum.phantom.dice import Dice
from hilum.phantom.plan import Lesion, Side, StudyPlan

Phrasing = Literal["train", "test"]

TEST_PHRASE_SHARE = 0.6  # of the choices in the phrasing "test" where there are phrases kept for it
IMPRESSION_SHARE = 0.85  # of the findings said are repeated in the impression
CHANGE_SHARE = 0.6  # of the findings of a patient with an earlier study are compared with it
CHANGE_RATIO = 1.25  # in severity
DEGREE_SHARE = 0.75
DEGREE_LIMITS = (0.25, 0.5, 0.75)  # severities between the four words of a scale
LISTED = ("Pleural Effusion", "Pneumothorax", "Consolidation", "Pneumonia", "Edema", "Lung Lesion", "Fracture")
LISTED_SHARE = 0.75
BLOCKS = {
    "lungs": ("Lung Opacity", "Consolidation", "Pneumonia", "Atelectasis", "Edema", "Lung Lesion"),
    "pleura": ("Pleural Effusion", "Pneumothorax", "Pleural Other"),
    "heart": ("Cardiomegaly", "Enlarged Cardiomediastinum"),
    "bones": ("Fracture",),
}
# Whose body a finding without a lesion of its own is seen on (clinic.true_states).
IMPLIED_BY = {"Enlarged Cardiomediastinum": "Cardiomegaly", "Consolidation": "Pneumonia"}


@functools.cache
def read_phrases() -> dict[str, Any]:
    return tomllib.loads(resources.files("hilum.phantom").joinpath("phrases.toml").read_text("utf-8"))


def count_phrases() -> dict[str, int]:
    """How many phrases there are for "train" and how many are kept for "test" only."""
    counts = {"train": 0, "test": 0}

    def walk(node: object) -> None:
        if isinstance(node, dict):
            for name, child in node.items():
                if name in counts and isinstance(child, list):
                    counts[name] += len(child)
                else:
                    walk(child)

    walk(read_phrases())
    return counts


class _Writer:
    """One report's choices: which phrase, which words fill it."""

    def __init__(self, plan: StudyPlan, phrasing: Phrasing) -> None:
        self.plan = plan
        self.phrasing = phrasing
        self.dice = Dice("phantom report", plan.key)
        self.phrases = read_phrases()
        self.imagined: dict[str, Lesion] = {}

    def choose(self, slot: Mapping[str, list[str]]) -> str:
        prefers_test = self.dice.happens(TEST_PHRASE_SHARE)
        kept = slot.get("test", []) if self.phrasing == "test" and prefers_test else []
        return self.dice.choose(kept or slot["train"])

    def find_lesions(self, finding: str) -> list[Lesion]:
        """What in the body the words are about; for a finding that is only imagined, somewhere it could be."""
        for name in (finding, IMPLIED_BY.get(finding)):
            lesions = [lesion for lesion in self.plan.lesions if lesion.finding == name]
            if lesions and name == finding:
                return lesions
            if lesions:
                return [Lesion(finding, each.side, each.zone, each.severity, 0, "silhouette") for each in lesions]
        if finding not in self.imagined:
            side: Side = self.dice.choose_weighted(SIDE_SHARES[finding]) if finding in SIDE_SHARES else "none"
            zone = self.dice.choose_weighted(ZONE_SHARES[finding]) if finding in ZONE_SHARES else "none"
            self.imagined[finding] = Lesion(finding, side, zone, 0.2, 0)
        return [self.imagined[finding]]

    def describe_change(self, lesions: list[Lesion]) -> str:
        compares = self.dice.happens(CHANGE_SHARE)
        if self.plan.prior is None or not compares:
            return ""
        before = {lesion.key: lesion.severity for lesion in self.plan.prior}
        ratios = [each.severity / before[each.key] for each in lesions if each.key in before]
        if not ratios:
            return self.choose(self.phrases["change"]["new"]) if any(each.key for each in lesions) else ""
        ratio = max(ratios)
        change = "more" if ratio > CHANGE_RATIO else "less" if ratio < 1 / CHANGE_RATIO else "same"
        return self.choose(self.phrases["change"][change])

    def fill(self, template: str, finding: str, lesions: list[Lesion], bare: str = "") -> str:
        sides = {lesion.side for lesion in lesions}
        both = "both" in sides or len(sides & {"left", "right"}) == 2
        side = "bilateral" if both else next(iter(sides - {"none"}), "")
        zones = {lesion.zone for lesion in lesions}
        zone = next(iter(zones)) if len(zones) == 1 else "none"
        severity = max(lesion.severity for lesion in lesions)
        scale = self.phrases["degrees"][self.phrases[finding].get("scale", "default")]
        degree = scale[sum(severity >= limit for limit in DEGREE_LIMITS)] if self.dice.happens(DEGREE_SHARE) else ""
        change = self.describe_change(lesions)
        place = self.choose(self.phrases["places"][zone])
        spot = self.choose(self.phrases["spots"][zone])
        words = {
            "bare": bare,
            "change": change,
            "degree": f"{change} {degree}",
            "side": side,
            "place": f"{side} {place}",
            "at": f"in both {spot}s" if both else f"in the {side} {spot}",
            "level": {"upper": "upper", "middle": "mid", "lower": "lower", "none": ""}[zone],
        }
        return _pick_number(template.format_map(words), several=both)

    def name_finding(self, finding: str, lesions: list[Lesion]) -> tuple[str, bool]:
        """A noun phrase with its article, and whether it is a plural."""
        grammar = self.phrases[finding]
        kinds = {lesion.kind for lesion in lesions}
        slot = grammar.get("kinds", {}).get(next(iter(kinds))) if len(kinds) == 1 else None
        template = self.choose(slot or grammar["phrase"])
        several = {lesion.side for lesion in lesions} >= {"left", "right"} or lesions[0].side == "both"
        phrase = self.fill(template, finding, lesions)
        return phrase, several and "[" in template

    def write_state(self, finding: str, state: int, *, brief: bool = False) -> str:
        """One sentence that says the finding is present or uncertain."""
        grammar, lesions = self.phrases[finding], self.find_lesions(finding)
        phrase, several = self.name_finding(finding, lesions)
        own_sentence = self.dice.happens(0.3)
        if state == 1 and own_sentence and not brief and "sentence" in grammar:
            sentence = self.fill(self.choose(grammar["sentence"]), finding, lesions, _drop_article(phrase))
        elif state == 1 and brief:
            sentence = f"{_drop_article(phrase)}."
        else:
            frame = self.choose(self.phrases["frames"]["present" if state == 1 else "uncertain"])
            sentence = _pick_number(frame, several=several).format(np=phrase, bare=_drop_article(phrase))
        return _polish(sentence)

    def write_absent(self, findings: list[str]) -> list[str]:
        """Sentences that deny `findings`: some in one list, some alone, and what has gone since the earlier study."""
        sentences, listed = [], []
        before = {lesion.finding for lesion in self.plan.prior or ()}
        for finding in self.dice.shuffle(findings):
            in_list, compares = self.dice.happens(LISTED_SHARE), self.dice.happens(CHANGE_SHARE)
            if finding in before and finding in LISTED and compares:
                old = [lesion for lesion in self.plan.prior or () if lesion.finding == finding]
                sides = {lesion.side for lesion in old} - {"none", "both"}
                bare = f"{sides.pop() if len(sides) == 1 else ''} {self.choose(self.phrases[finding]['noun'])}"
                frame = _pick_number(self.choose(self.phrases["frames"]["resolved"]), several=False)
                sentences.append(_polish(frame.format(bare=bare)))
            elif finding in LISTED and in_list:
                listed.append(self.choose(self.phrases[finding]["noun"]))
            else:
                sentences.append(self.choose(self.phrases[finding]["absent"]))
        if listed:
            joined = listed[0] if len(listed) == 1 else f"{', '.join(listed[:-1])} or {listed[-1]}"
            frame = _pick_number(self.choose(self.phrases["frames"]["absent"]), several=len(listed) > 1)
            sentences.insert(0, _polish(frame.format(list=joined)))
        return sentences

    def write_devices(self) -> list[str]:
        grammar = self.phrases["Support Devices"]["kinds"]
        devices = [lesion for lesion in self.plan.lesions if lesion.finding == "Support Devices"]
        return [_polish(self.choose(grammar[each.kind]).format(side=each.side)) for each in devices]


def _pick_number(text: str, *, several: bool) -> str:
    return re.sub(r"\[([^|\]]*)\|([^\]]*)\]", r"\2" if several else r"\1", text)


def _drop_article(phrase: str) -> str:
    return re.sub(r"^\s*a\s+", "", phrase)


def _polish(sentence: str) -> str:
    """Single spaces, "an" before vowels, a capital at the start."""
    sentence = re.sub(r"\s+", " ", sentence).strip().replace(" .", ".").replace(" ,", ",")
    sentence = re.sub(r"\b([Aa]) (?=[aeiou])", r"\1n ", sentence)
    return sentence[:1].upper() + sentence[1:]


def write_report(plan: StudyPlan, states: Mapping[str, int | None], phrasing: Phrasing = "train") -> dict[str, str]:
    """Findings and impression of a study, in words that say exactly `states` (as `clinic.label_states` gives them).

    The same plan, states and phrasing always give the same text.
    """
    writer = _Writer(plan, phrasing)
    dice = writer.dice
    own = find_severities(plan)
    implied = "Lung Opacity" not in own and any(states[finding] == 1 for finding in OPACITIES)
    said = [
        finding
        for findings in BLOCKS.values()
        for finding in findings
        if states[finding] in (1, -1) and not (finding == "Lung Opacity" and implied)
    ]
    absent = [finding for findings in BLOCKS.values() for finding in findings if states[finding] == 0]

    sentences = []
    for block in dice.shuffle(list(BLOCKS)):
        sentences += [writer.write_state(finding, states[finding] or 0) for finding in BLOCKS[block] if finding in said]
    sentences += writer.write_absent(absent)
    devices = []
    if states["Support Devices"] == 1:
        devices = writer.write_devices()
    elif states["Support Devices"] == 0:
        devices = [writer.choose(writer.phrases["Support Devices"]["absent"])]
    sentences = devices + sentences if dice.happens(0.6) else sentences + devices
    compares = dice.happens(0.5)
    frame = writer.choose(writer.phrases["frames"]["no_comparison" if plan.prior is None else "comparison"])
    if compares or not sentences:
        sentences.insert(0, frame)

    repeated = [finding for finding in said if dice.happens(IMPRESSION_SHARE)] or said
    impression = [writer.write_state(finding, states[finding] or 0, brief=True) for finding in repeated]
    if states["No Finding"] == 1:
        impression.append(writer.choose(writer.phrases["No Finding"]["sentence"]))
    return {"findings": " ".join(sentences), "impression": " ".join(impression)}


assert set(BLOCKS["lungs"] + BLOCKS["pleura"] + BLOCKS["heart"] + BLOCKS["bones"]) == set(FINDINGS) - {
    "No Finding",
    "Support Devices",
}
