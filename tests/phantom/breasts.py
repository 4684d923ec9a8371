"""Exams made by hand, for the tests of the breast phantom."""

from __future__ import annotations

from hilum.phantom.breast.plan import ExamPlan, Finding, Laterality, ViewPlan, Woman

VIEWS = tuple(ViewPlan(side, projection, 0) for side in ("L", "R") for projection in ("CC", "MLO"))


def make_exam(*findings: Finding, side: Laterality = "L", key: int = 5, glandularity: float = 0.45) -> ExamPlan:
    """One exam of a woman of 85 by 72 mm with these findings in one breast."""
    woman = Woman(key * 7919, 0, 55.0, 85.0, 72.0, glandularity, "c", False, ())
    planted: dict[Laterality, tuple[Finding, ...]] = {"L": (), "R": ()} | {side: findings}
    return ExamPlan("e1", "1", woman, 0.0, 0, "lakeside", key, planted, VIEWS)


def make_mass(place: tuple[float, float, float], size: float = 16.0, strength: float = 1.0) -> Finding:
    """A round, circumscribed, dense mass."""
    return Finding("mass", place, size, strength, 77, shape="round", margin="circumscribed", density="high")
