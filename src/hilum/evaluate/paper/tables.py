"""All tables of a suite, in its paper's order."""

from __future__ import annotations

from collections.abc import Callable

from .index import FINETUNE, PROBE, Suite
from .mvmlm_tables import build_mvmlm_tables
from .own_tables import (
    tabulate_differences,
    tabulate_few_labels,
    tabulate_seen,
    tabulate_selection,
    tabulate_slices,
)
from .pacx_suite import build_suite_tables
from .published_tables import (
    tabulate_calibration,
    tabulate_findings,
    tabulate_full,
    tabulate_studies,
    tabulate_views,
)
from .table import SuiteTable


def build_tables(suite: Suite) -> list[SuiteTable]:
    """All tables that there are results for, in the paper's order."""
    return _BUILDERS[suite.index["suite"]](suite)


def build_mvmae_tables(suite: Suite) -> list[SuiteTable]:
    """Those of MVMAE's evaluation (M 5)."""
    protocols = [
        kind for kind in (FINETUNE, PROBE) if any((of, count) == (kind, None) for of, _, count in suite.methods)
    ]
    tables = [tabulate_studies(suite)]
    for common in (False, True):
        # The published numbers are of fine-tuning: beside ours of that, or of the probe if there is no other.
        tables += [
            tabulate_full(suite, kind, common, suite.index["paper"] and kind == protocols[0]) for kind in protocols
        ]
    for kind in protocols:
        tables += tabulate_differences(suite, kind)
    tables += tabulate_calibration(suite)
    for kind in protocols:
        tables += tabulate_findings(suite, kind, suite.index["paper"] and kind == protocols[0])
    for kind in (FINETUNE, PROBE):
        tables += tabulate_few_labels(suite, kind)
    for kind in protocols:
        tables += tabulate_selection(suite, kind)
    tables += tabulate_views(suite)
    for kind in protocols:
        tables += tabulate_slices(suite, kind)
    if protocols:
        tables += tabulate_seen(suite, protocols[-1])
    return tables


_BUILDERS: dict[str, Callable[[Suite], list[SuiteTable]]] = {
    "mvmae": build_mvmae_tables,
    "pacx": build_suite_tables,
    "mvmlm": build_mvmlm_tables,
}
