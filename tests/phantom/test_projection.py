"""The analytic line integrals against the density they claim to integrate, the geometry, and what each view shows."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from hilum.errors import UserError
from hilum.phantom import bodies
from hilum.phantom.anatomy import Chest, build_chest
from hilum.phantom.bodies import density_at, make_balls, make_chain, make_ellipsoid
from hilum.phantom.detector import DETECTORS
from hilum.phantom.kernels import cover
from hilum.phantom.plan import Lesion, Person, StudyPlan
from hilum.phantom.projector import aim_beam, project_chest, project_masks
from hilum.phantom.render import render_masks, render_view

PERSON = Person(key=7, sex="F", age=61.0, height=1.66, body_mass_index=26.0, heart_ratio=0.44)


def make_plan(
    *lesions: Lesion, views: tuple = ("PA", "LATERAL"), key: int = 3, institution: str = "harbour"
) -> StudyPlan:
    return StudyPlan("s", "p", PERSON, 0.0, lesions, views, institution, key)


def make_lesion(finding: str, kind: str = "", side: str = "left", zone: str = "lower", severity: float = 0.7) -> Lesion:
    return Lesion(finding, side, zone, severity, 5, kind)


def march(chest: Chest, projection: str, size: int, pixels: list[tuple[int, int]], num: int) -> np.ndarray:
    """Line integrals of `density_at` in `num` midpoint steps over the part of each ray near the body."""
    beam = aim_beam(chest, projection, size)
    sums = []
    for row, col in pixels:
        end = beam.corner + beam.right * col + beam.down * row
        length = np.linalg.norm(end - beam.source)
        t = np.linspace(0.35, 1.2, num, endpoint=False) + 0.425 / num
        points = beam.source + t[:, None] * (end - beam.source)
        solids, swarms = chest.solids_of(projection), chest.swarms_of(projection)
        # Piece by piece, so that most small bodies are plainly elsewhere.
        density = sum(density_at(solids, swarms, piece).sum() for piece in np.split(points, 12))
        sums.append(density * 0.85 * length / num)
    return np.array(sums)


ILL = (
    make_lesion("Consolidation", zone="middle"),
    make_lesion("Pleural Effusion", "free"),
    make_lesion("Pneumothorax", side="right", zone="upper", severity=0.5),
    make_lesion("Lung Lesion", "mass", zone="upper"),
    make_lesion("Support Devices", "pacemaker"),
)


@pytest.mark.parametrize("projection", ["PA", "LATERAL", "AP"])
def test_integrals_equal_ray_marching_of_the_density(projection: str) -> None:
    chest = build_chest(make_plan(*ILL, views=("PA", "LATERAL", "AP")))
    image = project_chest(chest, projection, 64)
    rng = np.random.default_rng(1)
    pixels = [(int(row), int(col)) for row, col in rng.integers(6, 58, (7, 2))]
    marched = march(chest, projection, 64, pixels, 3000)
    exact = np.array([image[pixel] for pixel in pixels])
    # The march itself is good for 0.02: steps of 0.5 mm miss each of some hundred surfaces by half a step.
    np.testing.assert_allclose(exact, marched, atol=0.02, rtol=0.005)


def test_a_ball_and_a_tube_have_the_chords_of_geometry() -> None:
    plain = build_chest(make_plan())
    ball = make_ellipsoid(0.2, 1.0, (0.0, 0.8, 8.0), (3.0, 3.0, 3.0))
    chest = replace(plain, solids=(ball,), swarms=(), posed={"PA": ((), ())}, _merged={})
    image = project_chest(chest, "PA", 129)
    assert image.max() == pytest.approx(0.2 * 6.0, rel=2e-3)
    soft = make_balls(np.array([[0.0, 0.8, 8.0]]), np.array([3.0]), 0.2)
    chest = replace(chest, solids=(replace(ball, attenuation=0.0),), swarms=(soft,), _merged={})
    assert project_chest(chest, "PA", 129).max() == pytest.approx(0.2 * 4.0, rel=2e-3)  # (2/3) of the chord
    # A bent tube covers its mitred joint once: the thickness along the ray stays two radii.
    tube = bodies.join_swarms([make_chain(np.array([[-6.0, 0.8, 8.0], [0, 0.8, 8.0], [6.0, 0.8, 10.0]]), 1.0, 0.5)])
    chest = replace(chest, swarms=tuple(tube), _merged={})
    assert project_chest(chest, "PA", 129).max() == pytest.approx(0.5 * 2.0, rel=2e-2)


def test_what_displaces_is_counted_once() -> None:
    plain = build_chest(make_plan())
    big = make_ellipsoid(0.05, 1.0, (0.0, 0.8, 8.0), (5.0, 5.0, 5.0))
    left, right = (make_ellipsoid(0.2, 2.0, (x, 0.8, 8.0), (2.0, 2.0, 2.0)) for x in (-0.2, 0.2))
    chest = replace(plain, solids=(big, left, right), swarms=(), posed={"PA": ((), ())}, _merged={})
    middle = project_chest(chest, "PA", 129).max()
    assert middle == pytest.approx(0.05 * 6.0 + 0.2 * 4.0, rel=1e-2)


def test_coverage_merges_touching_intervals() -> None:
    begins, ends, counts = np.empty((6, 1)), np.empty((6, 1)), np.zeros(1, dtype=np.int64)
    intervals = [(0.1, 0.2), (0.5, 0.6), (0.15, 0.55), (0.0, 0.05), (0.3, 0.4), (0.0, 0.7)]
    added = [cover(begins, ends, counts, 0, first, last) for first, last in intervals]
    np.testing.assert_allclose(added, [0.1, 0.1, 0.3, 0.05, 0.0, 0.15], atol=1e-12)
    assert (counts[0], begins[0, 0], ends[0, 0]) == (1, 0.0, 0.7)


def test_portable_films_magnify_the_heart() -> None:
    chest = build_chest(make_plan(views=("PA", "AP")))
    source = {view: aim_beam(chest, view, 64).source for view in ("PA", "AP")}
    assert source["PA"][1] > 150  # behind the patient
    assert source["AP"][1] < -70  # in front, nearer
    width = {}
    for view in ("PA", "AP"):
        pixel = np.linalg.norm(aim_beam(chest, view, 128).right)
        width[view] = project_masks(chest, view, 128)["heart"].any(0).sum() * pixel
    assert width["AP"] > 1.05 * width["PA"]


def test_the_same_plan_gives_the_same_bytes_and_its_masks_fit() -> None:
    plan = make_plan(*ILL)
    for projection in plan.projections:
        first = render_view(plan, projection, 96)
        build_chest.cache_clear()
        second = render_view(plan, projection, 96)
        assert first.pixels.tobytes() == second.pixels.tobytes()
        masks = render_masks(plan, projection, 96)
        assert {mask.shape for mask in masks.values()} == {first.pixels.shape}
        assert all(
            masks[name].any() for name in ("heart", "left lung", "right lung", "lesion 0", "lesion 1", "lesion 3")
        )
        assert first.pixels.max() < 4096
    other = render_view(make_plan(*ILL, key=4), "PA", 96)
    assert other.pixels.tobytes() != render_view(plan, "PA", 96).pixels.tobytes()


def contrast(lesion: Lesion, projection: str) -> float:
    """Root mean square change of the line integrals by one lesion, in the same pose."""
    with_it, without = (project_chest(build_chest(make_plan(*some)), projection, 64) for some in ((lesion,), ()))
    return float(np.sqrt(np.mean((with_it - without) ** 2)))


@pytest.mark.parametrize(
    "lesion",
    [
        make_lesion("Cardiomegaly"),
        make_lesion("Edema", side="both"),
        make_lesion("Pneumonia"),
        make_lesion("Pleural Effusion", "free"),
        make_lesion("Atelectasis", "lobar"),
        make_lesion("Pneumothorax", zone="upper"),
        make_lesion("Fracture", "rib", zone="middle"),
        make_lesion("Pleural Other", "plaque"),
        make_lesion("Support Devices", "line", side="right"),
    ],
    ids=lambda lesion: lesion.finding,
)
def test_severity_scales_what_a_lesion_changes(lesion: Lesion) -> None:
    faint, plain = (contrast(replace(lesion, severity=severity), "PA") for severity in (0.1, 0.9))
    assert plain > 0.005
    if lesion.finding != "Support Devices":  # a device is there or is not
        assert plain > 1.3 * faint


@pytest.mark.parametrize(
    ("lesion", "plain", "hidden"),
    [
        (make_lesion("Pleural Effusion", "free", severity=0.25), "LATERAL", "PA"),
        (make_lesion("Fracture", "vertebra", severity=0.6), "LATERAL", "PA"),
        (make_lesion("Fracture", "rib", zone="middle"), "PA", "LATERAL"),
        (make_lesion("Pneumothorax", zone="upper", severity=0.6), "PA", "LATERAL"),
        (make_lesion("Pleural Effusion", "loculated"), "PA", "LATERAL"),
    ],
    ids=["small effusion", "vertebra", "rib", "pneumothorax", "loculated effusion"],
)
def test_some_findings_are_much_plainer_in_one_view(lesion: Lesion, plain: str, hidden: str) -> None:
    strength = {}
    for view in (plain, hidden):
        images = [render_view(make_plan(*some, key=6), view, 96).pixels.astype(float) for some in ((lesion,), ())]
        change = gaussian_filter(images[0] - images[1], 0.8)
        # Where the image changes most; the whole image's tone shifts a little.
        strength[view] = np.sort(np.abs(change - np.median(change)).ravel())[-30:].mean()
    assert strength[plain] > 1.3 * strength[hidden]


def test_hospitals_differ_and_an_unknown_one_is_refused() -> None:
    images = {name: render_view(make_plan(institution=name), "PA", 96) for name in DETECTORS}
    assert len(images) >= 3
    means = [
        float((image.pixels if image.photometric == "MONOCHROME2" else 4095 - image.pixels).std())
        for image in images.values()
    ]
    assert max(means) > 1.05 * min(means)
    with pytest.raises(UserError, match="nowhere"):
        render_view(make_plan(institution="nowhere"), "PA", 96)
