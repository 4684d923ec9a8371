"""The phantom's patients: how often, what with what, and always the same."""

from __future__ import annotations

import itertools

import pytest

from hilum.errors import UserError
from hilum.labels import FINDINGS
from hilum.phantom.clinic import INSTITUTIONS, OPACITIES, plan_studies, true_states
from hilum.phantom.plan import KINDS, StudyPlan

COMMON = {"Atelectasis", "Cardiomegaly", "Consolidation", "Edema", "Enlarged Cardiomediastinum", "Lung Opacity"}
COMMON |= {"Pleural Effusion", "Support Devices"}
LESS_COMMON = {"Lung Lesion", "Pneumonia", "Pneumothorax"}
RARE = {"Fracture", "Pleural Other"}  # 4 and 2 % of CheXpert's reports, less in MIMIC-CXR's


@pytest.fixture(scope="module")
def truths(plans: list[StudyPlan]) -> list[dict[str, int]]:
    return [true_states(plan) for plan in plans]


def _share(flags) -> float:
    flags = list(flags)
    return sum(flags) / len(flags)


def test_prevalences_of_stated_findings_are_those_of_a_hospital(labels) -> None:
    for finding in COMMON:
        assert 0.065 < _share(states[finding] == 1 for states in labels) < 0.40, finding
    for finding in RARE:
        assert 0.015 < _share(states[finding] == 1 for states in labels) < 0.045, finding
    for finding in LESS_COMMON:
        assert 0.03 < _share(states[finding] == 1 for states in labels) < 0.09, finding
    assert 0.30 < _share(states["No Finding"] == 1 for states in labels) < 0.48


def test_each_finding_has_its_uncertain_absent_and_unmentioned_states(labels) -> None:
    for finding in set(FINDINGS) - {"No Finding", "Support Devices"}:
        values = [states[finding] for states in labels]
        assert set(values) == {1, 0, -1, None}, finding
        assert values.count(None) > 0.15 * len(values), finding
    assert {states["No Finding"] for states in labels} == {1, None}


def test_subtle_findings_are_hedged_more_often(plans, labels) -> None:
    subtle, plain = [], []
    for plan, states in zip(plans, labels, strict=True):
        for lesion in plan.lesions:
            if lesion.finding not in ("Support Devices", "Lung Opacity") and states[lesion.finding] is not None:
                (subtle if lesion.severity < 0.3 else plain).append(states[lesion.finding] == -1)
    assert len(subtle) > 0.1 * (len(subtle) + len(plain))
    assert _share(subtle) > 1.4 * _share(plain)


@pytest.mark.parametrize(
    ("cause", "effect", "ratio"),
    [
        ("Cardiomegaly", "Edema", 2.0),
        ("Edema", "Pleural Effusion", 2.0),
        ("Pneumonia", "Consolidation", 2.0),
        ("Fracture", "Pneumothorax", 1.5),
        ("Pneumothorax", "Support Devices", 1.5),
    ],
)
def test_findings_of_one_cause_come_together(truths, cause: str, effect: str, ratio: float) -> None:
    with_cause = _share(truth[effect] for truth in truths if truth[cause])
    without = _share(truth[effect] for truth in truths if not truth[cause])
    assert with_cause > ratio * without


def test_heart_failure_brings_effusions_on_both_sides(plans, truths) -> None:
    def is_bilateral(plan: StudyPlan) -> bool:
        return {"left", "right"} <= {lesion.side for lesion in plan.lesions if lesion.finding == "Pleural Effusion"}

    effusions = [(plan, truth) for plan, truth in zip(plans, truths, strict=True) if truth["Pleural Effusion"]]
    with_edema = _share(is_bilateral(plan) for plan, truth in effusions if truth["Edema"])
    assert with_edema > 1.25 * _share(is_bilateral(plan) for plan, truth in effusions if not truth["Edema"])


def test_views_follow_the_institution_and_portable_films_are_sicker(plans, truths) -> None:
    assert 0.41 < _share(plan.projections == ("PA", "LATERAL") for plan in plans) < 0.50
    assert 0.02 < _share(len(plan.projections) == 3 for plan in plans) < 0.08
    normal = {
        views: _share(
            truth["No Finding"] for plan, truth in zip(plans, truths, strict=True) if plan.projections == views
        )
        for views in (("AP",), ("PA",), ("PA", "LATERAL"))
    }
    assert normal[("AP",)] < 0.6 * normal[("PA", "LATERAL")]
    for institution in INSTITUTIONS:
        assert _share(plan.institution == institution for plan in plans) > 0.15
    portable = {
        name: _share(plan.projections == ("AP",) for plan in plans if plan.institution == name) for name in INSTITUTIONS
    }
    assert portable["stanne"] > portable["harbour"] > portable["northfield"]


def test_patients_have_several_studies_in_order_of_time(plans) -> None:
    patients: dict[str, list[StudyPlan]] = {}
    for plan in plans:
        patients.setdefault(plan.patient, []).append(plan)
    assert 1.3 < len(plans) / len(patients) < 1.5
    for studies in patients.values():
        days = [plan.day for plan in studies]
        assert days == sorted(set(days))
        assert days[0] == 0
        assert len({(plan.person, plan.institution) for plan in studies}) == 1
        for before, after in itertools.pairwise(studies):
            assert after.prior == before.lesions
    assert len({plan.study for plan in plans}) == len({plan.key for plan in plans}) == len(plans)


def test_truth_and_labels_never_contradict_the_hierarchy(plans, truths, labels) -> None:
    for plan, truth, states in zip(plans, truths, labels, strict=True):
        others = [finding for finding in FINDINGS if finding not in ("No Finding", "Support Devices")]
        assert truth["No Finding"] == (not any(truth[finding] for finding in others))
        assert (states["No Finding"] == 1) == (not any(states[finding] in (1, -1) for finding in others))
        assert truth["Lung Opacity"] >= max(truth[finding] for finding in OPACITIES)
        if any(states[finding] == 1 for finding in OPACITIES):
            assert states["Lung Opacity"] == 1
        if any(states[finding] == -1 for finding in OPACITIES):
            assert states["Lung Opacity"] != 0
        for (
            finding
        ) in FINDINGS:  # a reader misses and hedges, but says present only of what is there, absent of what is not
            assert states[finding] != 1 or truth[finding] or finding == "No Finding", finding
            assert states[finding] != 0 or not truth[finding], finding
        for lesion in plan.lesions:
            assert lesion.kind in KINDS.get(lesion.finding, ("",))
            assert 0.0 <= lesion.severity <= 1.0


def test_more_studies_leave_the_earlier_ones_as_they_are() -> None:
    assert plan_studies(40, seed=3) == plan_studies(60, seed=3)[:40]
    assert plan_studies(20, seed=3) != plan_studies(20, seed=4)


def test_an_institution_alone_keeps_to_itself_and_an_unknown_one_is_refused() -> None:
    assert {plan.institution for plan in plan_studies(30, seed=0, institutions=("harbour",))} == {"harbour"}
    with pytest.raises(UserError, match=r"nowhere.*northfield"):
        plan_studies(3, seed=0, institutions=("nowhere",))
