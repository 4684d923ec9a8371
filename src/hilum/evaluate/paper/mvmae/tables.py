"""All tables of MVMAE's suite, in the paper's order."""

from __future__ import annotations

from hilum.evaluate.paper.index import FINETUNE, PROBE, Suite
from hilum.evaluate.paper.own_tables import (
    tabulate_differences,
    tabulate_few_labels,
    tabulate_seen,
    tabulate_selection,
    tabulate_slices,
)
from hilum.evaluate.paper.table import SuiteTable

from .published_tables import (
    tabulate_calibration,
    tabulate_findings,
    tabulate_full,
    tabulate_studies,
    tabulate_views,
)


def build_mvmae_tables(suite: Suite) -> list[SuiteTable]:
    """All tables that there are results for (M 5)."""
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
