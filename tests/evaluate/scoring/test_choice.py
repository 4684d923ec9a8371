"""What validation decides, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from hilum.errors import UserError
from hilum.evaluate.scoring.choice import decide, measure_aurocs, measure_macro_auroc, tune_thresholds

NAN = np.nan


def test_auroc_of_each_finding_is_of_its_known_rows():
    target = np.array([[1, 1, 0], [0, 1, 0], [1, NAN, 0], [0, 0, NAN]])
    logit = np.array([[3.0, 1, 0], [2, 3, 0], [1, 9, 0], [0, 2, 0]])
    areas = measure_aurocs(target, logit)
    assert areas[:2].tolist() == [0.75, 0.5]  # 3 of 4 pairs are in order; 1 of 2, the third row is not known
    assert np.isnan(areas[2])


def test_rare_findings_enter_the_mean_only_where_there_are_no_others():
    half = np.repeat([1.0, 0.0], 10)
    rare = np.append(1.0, np.zeros(19))
    target, logit = np.stack([half, rare], axis=1), np.stack([half, -rare], axis=1)
    assert measure_macro_auroc(target, logit) == 1.0
    assert measure_macro_auroc(target[:, 1:], logit[:, 1:]) == 0.0
    assert measure_macro_auroc(target[:10], np.stack([half, rare], axis=1)[:10]) == 1.0, "the first has one class here"
    with pytest.raises(UserError, match="No target has both classes among the 10 rows"):
        measure_macro_auroc(target[:10, :1], logit[:10, :1])


def test_the_threshold_is_of_the_best_f1_and_decides():
    target = np.array([[1.0, 1], [1, 1], [0, 1], [0, 1]])
    logit = np.array([[2.0, 1], [1, 2], [0, 3], [-1, 4]])
    threshold = tune_thresholds(target, logit)
    assert 0 < threshold[0] <= 1
    assert np.isnan(threshold[1]), "of one class"
    said = decide(logit, threshold)
    assert said[:, 0].tolist() == [1, 1, 0, 0]
    assert np.isnan(said[:, 1]).all()
