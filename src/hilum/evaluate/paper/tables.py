"""All tables of a suite, in its paper's order."""

from __future__ import annotations

from collections.abc import Callable

from .index import Suite
from .mvmae.tables import build_mvmae_tables
from .mvmlm.tables import build_mvmlm_tables
from .pacx.tables import build_suite_tables
from .table import SuiteTable


def build_tables(suite: Suite) -> list[SuiteTable]:
    """All tables that there are results for, in the paper's order."""
    return _BUILDERS[suite.index["suite"]](suite)


_BUILDERS: dict[str, Callable[[Suite], list[SuiteTable]]] = {
    "mvmae": build_mvmae_tables,
    "pacx": build_suite_tables,
    "mvmlm": build_mvmlm_tables,
}
