"""The alignment probe: it finds what features know of a teacher, its controls find nothing, and intervals say so."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from hilum.errors import UserError
from hilum.evaluate.distilled.alignment_probe import (
    SLICES,
    Pairs,
    estimate_alignment,
    probe_alignment,
)
from hilum.evaluate.distilled.record import record_alignment
from hilum.evaluate.paper.table import format_estimate
from hilum.evaluate.result import Hashes, read_result, write_result
from hilum.evaluate.scoring.resamples import collect_resamples, estimate_resamples, subtract


def make_pairs(num: int, first_patient: int, noise: float, seed: int) -> Pairs:
    """Two rows a patient; the teacher is a linear map of what the features show, plus a large common direction."""
    rng = np.random.default_rng(seed)
    true = rng.normal(size=(num, 6))
    mix = np.random.default_rng(99).normal(size=(6, 20))
    features = np.concatenate([true + noise * rng.normal(size=true.shape), rng.normal(size=(num, 4))], axis=1)
    teacher = true @ mix + 3.0 + rng.normal(size=(num, 20))
    return Pairs(features.astype(np.float32), teacher.astype(np.float32), first_patient + np.arange(num) // 2)


def make_splits(noise: float) -> list[Pairs]:
    return [make_pairs(num, 1000 * split, noise, split) for split, num in enumerate((300, 120, 160))]


@pytest.fixture(scope="module")
def probe():
    return probe_alignment(*make_splits(0.5), teacher="ecg")


@pytest.fixture(scope="module")
def estimates(probe):
    return {(e.metric, e.slice): e for e in estimate_alignment(probe, num_resamples=200)}


def test_signal_is_found_and_every_floor_is_below_it(estimates):
    chosen, paper, shuffled, constant = (SLICES[arm] for arm in ("chosen", "paper", "shuffled", "constant"))
    for metric in ("centred_cosine", "r2", "cosine"):
        for slice in (chosen, paper):
            assert estimates[metric, slice].low > estimates[metric, shuffled].high
            assert estimates[metric, slice].low > estimates[metric, constant].high
    for metric in ("centred_cosine", "r2"):
        assert abs(estimates[metric, shuffled].value) < 0.1
        assert abs(estimates[metric, constant].value) < 0.1
    assert estimates["cosine", constant].value > 0.5, "raw cosines of this teacher say little"
    assert estimates["random_pair_cosine", chosen].value > 0.4
    assert abs(estimates["random_pair_centred_cosine", chosen].value) < 0.05
    found, chance = estimates["recall_at_5", "image to ecg"], estimates["chance_at_5", "image to ecg"]
    assert found.low > chance.value
    assert found.of == "ecg"


def test_the_penalty_is_chosen_by_validation_and_recorded(probe):
    assert probe.alpha == max(probe.tried, key=lambda alpha: probe.tried[alpha])
    protocol = probe.protocol
    assert protocol["chosen_alpha"] == probe.alpha
    assert len(protocol["validation_centred_cosine_tried"]) == len(probe.tried)
    assert protocol["best_constant_cosine"] == pytest.approx(protocol["teacher_pairwise_cosine"] ** 0.5, abs=0.02)
    assert probe.counts["training_rows"] == 300
    assert probe.counts["test_patients"] == 80
    one = probe_alignment(*make_splits(0.5), teacher="ecg", alphas=(10.0,))
    assert np.array_equal(one.said["chosen"].predicted, one.said["paper"].predicted)
    assert one.notes == ()
    for alphas in ((1e7, 1e8), (1e-9, 1e-8, 1e7)):
        edge = probe_alignment(*make_splits(0.5), teacher="ecg", alphas=alphas)
        assert bool(edge.notes) == (edge.alpha > 1), "no penalty at all is no edge"
    assert probe.notes == ()


def test_nothing_of_test_enters_the_fit():
    train, val, test = make_splits(0.5)
    other = replace(test, teacher=test.teacher + 100)
    a, b = (probe_alignment(train, val, part, teacher="ecg") for part in (test, other))
    assert np.array_equal(a.said["chosen"].predicted, b.said["chosen"].predicted)
    assert a.alpha == b.alpha


def test_of_two_encoders_the_better_is_told_by_pairs():
    good, worse = (probe_alignment(*make_splits(noise), teacher="ecg") for noise in (0.4, 0.7))
    alone = estimate_alignment(good, num_resamples=200)
    ours, theirs = (collect_resamples(estimate_alignment(one, num_resamples=200), one.rows) for one in (good, worse))
    there, back = (estimate_resamples(subtract(*pair), alone) for pair in ((ours, theirs), (theirs, ours)))
    assert [e.metric for e in there[:3]] == ["centred_cosine", "r2", "cosine"]
    for one, other in zip(there[:3], back, strict=False):
        assert one.low > 0
        assert one.value == pytest.approx(-other.value)
    assert there[0].high - there[0].low < alone[0].high - alone[0].low
    shorter = probe_alignment(*make_splits(0.4)[:2], make_pairs(100, 2000, 0.4, 2), teacher="ecg")
    with pytest.raises(AssertionError, match="different rows"):
        subtract(ours, collect_resamples(estimate_alignment(shorter, num_resamples=200), shorter.rows))


def test_a_result_says_how_it_came_about(probe, tmp_path):
    estimates = estimate_alignment(probe, num_resamples=20)
    result = record_alignment(
        probe, estimates, encoder="pacx", hashes=Hashes("d", "s", "w", "c"), num_resamples=20, notes=("of a test",)
    )
    again = read_result(write_result(tmp_path / "result.json", result))
    assert again.find("centred_cosine", "ecg", SLICES["chosen"]) == estimates[0].plain
    assert again.protocol["teacher"] == "ecg"
    assert (again.task, again.notes, again.counts["test_rows"]) == ("alignment with ecg", ("of a test",), 160)


def test_what_cannot_be_probed_is_refused():
    train, val, test = make_splits(0.5)
    none = Pairs(test.features[:0], test.teacher[:0], test.patient[:0])
    with pytest.raises(UserError, match="No test row has both"):
        probe_alignment(train, val, none, teacher="labs")
    with pytest.raises(UserError, match="60 patients are in training and in validation"):
        probe_alignment(train, replace(val, patient=train.patient[:120]), test, teacher="labs")
    with pytest.raises(UserError, match="more than half of the 120 validation rows"):
        probe_alignment(train, replace(val, patient=np.full(120, 1000)), test, teacher="labs")
    broken = train.teacher.copy()
    broken[7, 3] = np.nan
    with pytest.raises(
        UserError, match=r"training vectors of labs hold numbers that are not finite \(the first in row 7\)"
    ):
        probe_alignment(replace(train, teacher=broken), val, test, teacher="labs")


def test_few_test_rows_give_the_reason_and_no_number():
    train, val, test = make_splits(0.5)
    for num, is_few in ((29, True), (30, False)):
        some = Pairs(test.features[:num], test.teacher[:num], test.patient[:num])
        found = estimate_alignment(probe_alignment(train, val, some, teacher="ecg"), num_resamples=20)
        assert len(found) == 26
        assert {one.value is None for one in found} == {is_few}
        reasons = {one.reason for one in found}
        assert reasons == ({"too few: 29 of 30 test rows at least"} if is_few else {None})
        assert all((format_estimate(one, 1.0, 3) == "too few") == is_few for one in found)


def test_retrieval_among_listed_candidates_stands_beside_that_among_all(probe, estimates):
    candidates = np.zeros((160, 160), bool)
    asks = np.arange(0, 160, 4)
    for step in range(10):
        candidates[asks, (asks + 2 * step) % 160] = True  # of other patients
    both = {(e.metric, e.slice): e for e in estimate_alignment(probe, candidates=candidates, num_resamples=200)}
    assert {name: both[name] for name in estimates} == estimates
    among = both["chance_at_1", "image to ecg, own candidates"]
    assert (among.value, among.num) == (pytest.approx(0.1), 40)
    assert both["recall_at_1", "ecg to image, own candidates"].low > 0.1
    few = estimate_alignment(probe, candidates=np.where(np.arange(160)[:, None] < 100, candidates, False))
    assert [e.value for e in few if e.slice.endswith("own candidates")] == [None] * 12, "25 queries"
