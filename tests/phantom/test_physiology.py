"""The hidden physiology: what is planted is there with its size, shows in the image, and what is not planted is not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from hilum.phantom.anatomy import Chest
from hilum.phantom.clinic import plan_studies
from hilum.phantom.physiology.body import build_body, render_masks, render_view
from hilum.phantom.physiology.effects import CAUSES, ECG, GIVEN, IMAGE, LABORATORY, ORDERS, TARGETS, find_linked
from hilum.phantom.physiology.freeze import FROZEN, hash_physiology
from hilum.phantom.physiology.state import Physiology, draw_physiology
from hilum.phantom.plan import Person, StudyPlan
from hilum.phantom.projector import project_chest, project_masks
from hilum.phantom.render import render_masks as render_plain_masks
from hilum.phantom.render import render_view as render_plain_view

UNSHOWN = ("long_qt", "diabetes")
PERSON = Person(key=7, sex="M", age=61.0, height=1.76, body_mass_index=25.0, heart_ratio=0.44)
PLAN = StudyPlan("s", "p", PERSON, 0.0, (), ("PA", "LATERAL"), "harbour", 3)


def test_the_physiology_is_the_one_that_results_were_measured_on() -> None:
    assert hash_physiology() == FROZEN, "physiology changed: see FROZEN in physiology/freeze.py"


def test_every_name_of_the_table_is_a_cause() -> None:
    known = set(GIVEN)
    for name, cause in CAUSES.items():
        assert set(cause.drivers) <= known, f"{name} follows what is drawn after it"
        known.add(name)
    for effects in (*(quantity.effects for quantity in (IMAGE | ECG).values()), *LABORATORY.values(), *ORDERS.values()):
        assert set(effects) <= known
    assert {target.cause for target in TARGETS.values()} <= set(CAUSES)


def test_targets_are_neither_rare_nor_common(bodies: list[Physiology]) -> None:
    for name in TARGETS:
        assert 0.05 < np.mean([body.targets[name] for body in bodies]) < 0.20, name
    for body in bodies:
        assert all(0.0 <= body.causes[name] <= 1.0 for name in CAUSES)
    rhythms = [body.rhythm for body in bodies]
    assert 0.04 < rhythms.count("fibrillation") / len(rhythms) < 0.20
    assert {body.causes["pacemaker"] for body in bodies if body.rhythm == "paced"} == {1.0}


def test_what_belongs_to_a_patient_comes_back_at_every_study(plans, bodies) -> None:
    found: dict[str, set[float]] = {}
    for plan, body in zip(plans, bodies, strict=True):
        found.setdefault(plan.patient, set()).add(body.causes["diabetes"])
    assert all(len(values) == 1 for values in found.values())
    assert len({body.causes["inflammation"] for body in bodies}) > 200


@pytest.mark.parametrize("group", ["image", "ecg"])
def test_quantities_have_the_planted_effects(bodies: list[Physiology], group: str) -> None:
    """Least squares over many studies gives the table back, where no limit cuts."""
    for name, quantity in (IMAGE if group == "image" else ECG).items():
        values = np.array([getattr(body, group)[name] for body in bodies])
        free = (values > quantity.low) & (values < quantity.high)
        if name in ("block", "strain", "ectopy", "arch_calcium", "upper_vessels"):
            continue  # cut for most: what is left is no sample of all
        table = np.array([[body.causes[cause] for cause in quantity.effects] for body in bodies])[free]
        table = np.concatenate([table, np.ones((len(table), 1))], axis=1)
        fit = np.linalg.lstsq(table, values[free], rcond=None)[0]
        error = max(quantity.spread, 1e-9) * np.sqrt(np.diag(np.linalg.inv(table.T @ table)))
        planted = np.array([*quantity.effects.values(), quantity.normal])
        # A patient's studies share most of their deviation, so that there are fewer than rows: twice the error.
        assert (np.abs(fit - planted) < 8 * error).all(), (name, fit, planted)


def test_what_is_planted_nowhere_in_the_image_is_not_there(plans, bodies) -> None:
    linked = find_linked()
    assert not linked & set(UNSHOWN)
    assert {target.cause for target in TARGETS.values() if target.image != "none"} <= linked
    assert {name for name, target in TARGETS.items() if target.image == "none"} == set(UNSHOWN)
    first = [body for plan, body in zip(plans, bodies, strict=True) if plan.day == 0]
    shown = np.array([[*(body.causes[name] for name in GIVEN), *body.image.values()] for body in first])
    for name in UNSHOWN:
        cause = np.array([body.causes[name] for body in first])
        found = [np.corrcoef(cause, column)[0, 1] for column in shown.T if column.std() > 0]
        # The largest of some 25 correlations that are zero, each with a standard error of 0.037.
        assert np.abs(found).max() < 0.13, name


def test_a_body_without_changes_is_the_phantom_as_it_was(plans: list[StudyPlan]) -> None:
    plan = next(plan for plan in plans if len(plan.lesions) > 2 and "LATERAL" in plan.projections)
    body = draw_physiology(plan)
    plain = replace(body, image=dict.fromkeys(body.image, 0.0))
    for projection in plan.projections:
        image, before = render_view(plan, plain, projection, 40), render_plain_view(plan, projection, 40)
        np.testing.assert_array_equal(image.pixels, before.pixels)
        masks, were = render_masks(plan, plain, projection, 40), render_plain_masks(plan, projection, 40)
        assert masks.keys() == were.keys()
        assert all((masks[name] == were[name]).all() for name in were)
    assert (render_view(plan, body, "LATERAL", 40).pixels != render_plain_view(plan, "LATERAL", 40).pixels).any()


def _build(**image: float) -> Chest:
    body = draw_physiology(PLAN)
    return build_body(PLAN, replace(body, image={**dict.fromkeys(body.image, 0.0), **image}))


def _find_heart(projection: str, **image: float) -> np.ndarray:
    return project_masks(_build(**image), projection, 96)["heart"]


def test_heart_and_ventricle_and_atrium_show_where_they_lie() -> None:
    widths, left_edges, back_edges = [], [], []
    for amount in (0.0, 0.5, 1.0):
        cols = np.flatnonzero(_find_heart("PA", heart=0.1 * amount).any(0))
        widths.append(cols[-1] - cols[0])
        lower = _find_heart("PA", ventricle=0.9 * amount)
        left_edges.append(np.flatnonzero(lower.any(0))[-1])  # the patient's left is at the image's right
        back_edges.append(_find_heart("LATERAL", atrium=0.9 * amount).sum())
    for found in (widths, left_edges, back_edges):
        assert found[0] < found[1] < found[2], found
    plain, changed = _find_heart("LATERAL"), _find_heart("LATERAL", atrium=0.9)
    cols = np.nonzero(changed & ~plain)[1]
    assert cols.mean() < np.nonzero(plain)[1].mean(), "a left atrium grows to the back, a lateral faces right"


def test_vessels_and_calcium_add_density_in_their_places() -> None:
    plain = project_chest(_build(), "PA", 96)
    previous = np.zeros_like(plain)
    for share in (0.3, 0.9):
        more = project_chest(_build(upper_vessels=share), "PA", 96) - plain
        assert more.min() > -1e-4
        assert more.sum() > 1.5 * previous.sum()
        assert more[:48].sum() > 2 * more[48:].sum(), "upper lobes are in the upper half"
        previous = more
    calcium = project_chest(_build(arch_calcium=0.5), "PA", 96) - plain
    rows, cols = np.nonzero(calcium > 0.05)
    assert 4 < len(rows) < 200
    assert rows.max() < 60
    assert cols.min() > 40, "the arch lies to the patient's left"


def test_a_patient_s_physiology_does_not_depend_on_who_else_is_there() -> None:
    few, many = plan_studies(5, seed=9), plan_studies(15, seed=9)
    for plan, same in zip(few, many, strict=False):
        assert draw_physiology(plan).causes == draw_physiology.__wrapped__(same).causes
