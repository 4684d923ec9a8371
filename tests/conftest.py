"""Shapes are checked in every test; long trials wait for --soak; real data and programs are used where present."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from jaxtyping import install_import_hook

# Before torch is imported: with a worker of pytest on every core, torch's threads would wait for each other in loops
# that take five times the processor time of the work. Processes that tests start inherit it.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Before anything of hilum is imported: every annotated signature is checked at run time.
install_import_hook("hilum", "beartype.beartype")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--soak", action="store_true", help="run the long trials too (make soak)")


# A file is one worker's: the longest come first, or at the end one worker would wait for the other.
LONGEST = (
    "test_train.py",
    "test_mvmae_suite.py",
    "test_probe_report.py",
    "test_road.py",
    "test_cache_kills.py",
    "test_pacx_runs.py",
)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: LONGEST.index(item.path.name) if item.path.name in LONGEST else len(LONGEST))
    if config.getoption("--soak"):
        return
    skip = pytest.mark.skip(reason="long trial: make soak")
    for item in items:
        if item.get_closest_marker("soak"):
            item.add_marker(skip)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of small public data sets; tests that need it are skipped where it is absent."""
    root = Path(os.environ.get("HILUM_REAL_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not root.is_dir():
        pytest.skip(f"no real data at {root.name}: set HILUM_REAL_DATA")
    return root


@pytest.fixture(scope="session")
def chromium() -> str:
    """Path of a real browser; in CI its absence is a failure, elsewhere a visible skip."""
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if found:
        return found
    if os.environ.get("HILUM_CI"):
        pytest.fail("Chromium is not installed: .ci/run must install it")
    pytest.skip("no Chromium on this machine")
