"""The breast in 3-D: two compressions of one body, what shows on which view, stored forms, the reader, the hazard."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pydicom
import pytest
from pydicom.pixels import apply_voi_lut
from tests.phantom.breasts import VIEWS, make_exam, make_mass

from hilum.phantom.breast import clinic, hazard
from hilum.phantom.breast.archive import find_box, find_regions
from hilum.phantom.breast.detector import acquire, is_mirrored, orient
from hilum.phantom.breast.dicom_file import encode_view
from hilum.phantom.breast.freeze import FROZEN, hash_breast
from hilum.phantom.breast.hazard import find_true_c_index
from hilum.phantom.breast.plan import (
    BENIGN_MORPHOLOGIES,
    DISTRIBUTIONS,
    MARGINS,
    MASS_DENSITIES,
    SHAPES,
    SUSPICIOUS_MORPHOLOGIES,
    Finding,
)
from hilum.phantom.breast.projector import project
from hilum.phantom.breast.reader import measure_contrast, read_exam
from hilum.phantom.breast.reports import write_report
from hilum.phantom.breast.shape import compress
from hilum.phantom.breast.stored import FORMS

CC, MLO = VIEWS[0], VIEWS[1]
SIZE = 200


def test_settings_are_the_frozen_ones() -> None:
    assert hash_breast() == FROZEN


@pytest.mark.parametrize("place", [(45.0, 20.0, 12.0), (60.0, -15.0, -20.0), (38.0, 5.0, 30.0)])
@pytest.mark.parametrize("key", [5, 6])
def test_the_two_masks_of_a_mass_give_back_its_place_in_the_body(place, key) -> None:
    """From the centres on CC and MLO alone, with the formulas of `shape`, solved for x, y and z by hand."""
    exam = make_exam(make_mass(place), key=key)
    centres = []
    for view in (CC, MLO):
        pose = compress(exam, view)
        frame = pose.frame(SIZE)
        rows, cols = np.nonzero(find_regions(exam, view, SIZE)[0])
        centres.append((frame.left + cols.mean() * frame.pixel, frame.top - rows.mean() * frame.pixel, pose))
    (u, v, cc), (u_oblique, v_oblique, mlo) = centres
    y = v / cc.b
    z = (v_oblique / mlo.b - y * mlo.m[0]) / mlo.m[1]
    x = (u + cc.o + cc.k * z) / cc.a
    assert np.allclose((x, y, z), place, atol=2.0)
    n = y * mlo.n[0] + z * mlo.n[1]
    assert u_oblique == pytest.approx(mlo.a * x - mlo.k * n - mlo.o, abs=2.0)


def test_a_mass_adds_attenuation_inside_its_mask_and_nowhere_far_from_it() -> None:
    exam, bare = make_exam(make_mass((45.0, 20.0, 12.0))), make_exam()
    for view in (CC, MLO):
        added = project(exam, view, size=SIZE).total - project(bare, view, size=SIZE).total
        region = find_regions(exam, view, SIZE)[0]
        assert added[region].mean() > 0.15
        top, left, bottom, right = (int(each) for each in np.array(find_box(region, 1))[[1, 0, 3, 2]])
        outside = np.ones(added.shape, bool)
        outside[max(top - 3, 0) : bottom + 3, max(left - 3, 0) : right + 3] = False
        assert np.abs(added[outside]).max() < 1e-5


@pytest.mark.parametrize("only", ["CC", "MLO"])
def test_a_summation_changes_pixels_of_one_view_only(only) -> None:
    finding = Finding("asymmetry", (45.0, 15.0, 10.0), 24.0, 1.0, 9, only=only)
    exam, bare = make_exam(finding), make_exam()
    for view in (CC, MLO):
        with_it, without = acquire(exam, view, SIZE).grey, acquire(bare, view, SIZE).grey
        if view.projection == only:
            region = find_regions(exam, view, SIZE)[0]
            assert (with_it - without)[region].mean() > 0.05
        else:
            assert np.array_equal(with_it, without)
            assert find_regions(exam, view, SIZE) == {}


def test_a_focal_asymmetry_is_in_the_body_and_changes_both_views() -> None:
    exam = make_exam(Finding("focal asymmetry", (45.0, 15.0, 10.0), 28.0, 1.0, 9), glandularity=0.3)
    bare = make_exam(glandularity=0.3)
    for view in (CC, MLO):
        added = project(exam, view, size=SIZE).total - project(bare, view, size=SIZE).total
        region = find_regions(exam, view, SIZE)[0]
        assert added[region].mean() > 5 * np.abs(added[~region]).mean()


def test_posterior_places_leave_the_field_of_one_view() -> None:
    """High up and behind: cut off by CC, seen by MLO."""
    exam = make_exam(make_mass((4.0, 15.0, 50.0), 10.0))
    assert 0 not in find_regions(exam, CC, SIZE) or find_regions(exam, CC, SIZE)[0].sum() < 20
    assert find_regions(exam, MLO, SIZE)[0].sum() > 20


def test_dense_tissue_masks_and_strength_shows() -> None:
    mass = make_mass((50.0, 10.0, 8.0), 12.0)
    fatty, dense = (measure_contrast(make_exam(mass, glandularity=g), "L", mass, "CC") for g in (0.15, 0.8))
    faint = replace(mass, strength=0.3)
    assert fatty > 1.5 * dense > 0
    assert measure_contrast(make_exam(faint, glandularity=0.15), "L", faint, "CC") < 0.5 * fatty


def test_every_form_shows_the_same_image() -> None:
    """MONOCHROME2, MONOCHROME1, LUT and SIGMOID differ by at most one of 256 grey levels (L 9)."""
    exam = make_exam()
    acquisition = acquire(exam, MLO, SIZE)
    shown = {}
    for form in FORMS:
        file = pydicom.dcmread(io.BytesIO(encode_view(exam, MLO, acquisition, form)))
        grey = apply_voi_lut(file.pixel_array, file).astype(float) / 4095
        shown[form] = 255 * (1 - grey if file.PhotometricInterpretation == "MONOCHROME1" else grey)
    for form in FORMS[1:]:
        assert np.abs(shown[form] - shown["window"]).max() <= 1.01, form
    assert np.abs(shown["window"] - 255 * np.clip(acquisition.grey, 0, 1)).max() <= 1.01


def test_right_breasts_face_right_but_where_they_are_stored_mirrored() -> None:
    exams = [replace(make_exam(), institution="hillcrest", key=key) for key in range(12)]
    assert {is_mirrored(exam, VIEWS[2]) for exam in exams} == {True, False}
    for exam in (next(exam for exam in exams if is_mirrored(exam, VIEWS[2]) == wanted) for wanted in (True, False)):
        grey = acquire(exam, VIEWS[2], SIZE).grey
        left, right = grey[:, : SIZE // 10].mean(), grey[:, -SIZE // 10 :].mean()
        assert (left > right) == is_mirrored(exam, VIEWS[2])
        mask = np.zeros((4, 3), bool)
        mask[0, 0] = True
        assert orient(mask, exam, VIEWS[2])[0, 0 if is_mirrored(exam, VIEWS[2]) else 2]


def test_the_true_c_index_is_that_of_pairs_and_of_drawn_times() -> None:
    rate = np.array([1.0, 2.0, 3.0])  # three pairs, by hand: 2/3, 3/4, 3/5 in the right order
    assert find_true_c_index(np.log(rate), rate) == pytest.approx((2 / 3 + 3 / 4 + 3 / 5) / 3)
    assert find_true_c_index(-rate, rate) == pytest.approx((1 / 3 + 1 / 4 + 2 / 5) / 3)
    assert find_true_c_index(np.zeros(3), rate) == pytest.approx(0.5)
    rng = np.random.default_rng(0)
    rates = np.exp(rng.normal(-2, 0.8, 400))
    score = np.log(rates) + rng.normal(0, 0.5, 400)
    for until in (None, 5.0):
        hits = pairs = 0.0
        for _ in range(30):
            times = rng.exponential(1 / rates)
            first = (times[:, None] < times[None, :]) & (times[:, None] < (until or np.inf))
            pairs += first.sum()
            hits += (first & (score[:, None] > score[None, :])).sum()
        assert find_true_c_index(score, rates, until) == pytest.approx(hits / pairs, abs=0.01)


@pytest.fixture(scope="module")
def women():
    return clinic.plan_women(450, seed=4)


def test_outcomes_follow_the_stated_hazard(women) -> None:
    followed = [(exams[-1].woman, outcome) for exams, outcome in women if outcome.days > 0]
    assert 0.2 < np.mean([not outcome.event for _, outcome in followed]) < 0.6
    for woman, outcome in followed[:50]:
        z = np.interp(woman.glandularity, clinic.GLANDULARITY[1], clinic.GLANDULARITY[0])
        risk = np.log(hazard.BASE) + hazard.DENSITY * z + hazard.AGE * (woman.age - 54) / 10
        assert outcome.risk == pytest.approx(risk + hazard.SIGN * outcome.sign, abs=2e-3)
        assert abs(np.log(outcome.rate) - outcome.risk) <= 3 * hazard.NOISE + 1e-9
    # Events per year of follow-up are what the rates say: an exponential time has no other shape.
    years = np.array([outcome.days for _, outcome in followed]) / hazard.DAYS
    rate = np.array([outcome.rate for _, outcome in followed])
    events = np.array([outcome.event for _, outcome in followed])
    for plain in (rate < np.median(rate), rate >= np.median(rate)):
        expected = (years * rate)[plain].sum()
        assert events[plain].sum() == pytest.approx(expected, abs=4 * np.sqrt(expected))
    risk = np.array([outcome.risk for _, outcome in followed])
    assert 0.65 < find_true_c_index(risk, rate) < 0.80


def test_signs_are_in_the_images_before_and_fainter(women) -> None:
    signed = [(exams, outcome) for exams, outcome in women if outcome.sign and len(exams) > 1]
    assert len(signed) > 20
    for exams, outcome in signed[:20]:
        sign = exams[-1].findings[outcome.laterality][-1]
        assert sign.strength < 0.6
        before = [finding for finding in exams[0].findings[outcome.laterality] if finding.key == sign.key]
        assert not before or before[0].size <= sign.size


def test_women_are_as_many_and_as_dense_as_stated(women) -> None:
    density = [exams[0].woman.density for exams, _ in women]
    for name, share in {"a": 0.005, "b": 0.095, "c": 0.765, "d": 0.135}.items():
        assert density.count(name) / len(density) == pytest.approx(share, abs=4 * np.sqrt(share / len(density)))
    assert clinic.plan_women(5, seed=4) == women[:5]
    assert clinic.plan_women(5, seed=3) != women[:5]
    for exams, _ in women[:200]:
        for exam in exams:
            for finding in (*exam.findings["L"], *exam.findings["R"]):
                assert finding.shape in ("", *SHAPES)
                assert finding.margin in ("", *MARGINS)
                assert finding.density in ("", *MASS_DENSITIES)
                assert finding.morphology in ("", *BENIGN_MORPHOLOGIES, *SUSPICIOUS_MORPHOLOGIES)
                assert finding.distribution in ("", *DISTRIBUTIONS)
                assert bool(finding.only) == (finding.kind == "asymmetry")


def test_cancers_grow_and_summations_do_not_stay() -> None:
    grown = Finding("mass", (40.0, 0.0, 0.0), 20.0, 1.0, 3, malignant=True)
    before = clinic.grow_back(grown, 1.0)
    assert before is not None
    assert before.size < grown.size
    assert before.strength < grown.strength
    assert clinic.grow_back(grown, 9.0) is None
    assert clinic.grow_back(replace(grown, kind="asymmetry", malignant=False), 1.0) is None


def test_reports_say_what_was_read_and_no_outcome() -> None:
    mass = replace(make_mass((50.0, 18.0, 15.0)), margin="spiculated", shape="irregular", malignant=True)
    exam = make_exam(mass, glandularity=0.2)
    reading = read_exam(exam, None)
    assert reading[0].findings[0].birads >= 4
    assert reading[0].findings[0].quadrant == "upper outer"
    assert reading[1].assessment == 1
    report = write_report(exam, None, reading)
    left, right = report["findings"].split("Right breast")[0], report["impression"].split("Right breast")[1]
    assert "16 mm irregular mass with spiculated margins" in left
    assert "upper outer" in left
    assert "BI-RADS 1" in right
    assert not any(word in " ".join(report.values()).lower() for word in ("cancer", "malignant", exam.patient + "0"))
