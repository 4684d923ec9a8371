"""Plans that the tests of patients and of reports share: drawing them is what takes time."""

from __future__ import annotations

import pytest

from hilum.phantom.clinic import label_states, plan_studies
from hilum.phantom.physiology.state import Physiology, draw_physiology
from hilum.phantom.plan import StudyPlan


@pytest.fixture(scope="session")
def plans() -> list[StudyPlan]:
    return plan_studies(1000, seed=7)


@pytest.fixture(scope="session")
def labels(plans: list[StudyPlan]) -> list[dict[str, int | None]]:
    return [label_states(plan) for plan in plans]


@pytest.fixture(scope="session")
def bodies(plans: list[StudyPlan]) -> list[Physiology]:
    return [draw_physiology.__wrapped__(plan) for plan in plans]
