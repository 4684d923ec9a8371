"""Leads are known by their names, whatever the file's order and spelling."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from ecg_files import MIMIC_ORDER, make_leads, make_record

from hilum.signals.record import LEADS, normalize_lead, scale_to_millivolts, take_leads
from hilum.signals.rejection import RejectedRecord


@pytest.mark.parametrize(
    ("name", "lead"),
    [
        *((lead, lead) for lead in LEADS),
        *((lead.upper(), lead) for lead in LEADS),
        *((lead.lower(), lead) for lead in LEADS),
        *((f"MDC_ECG_LEAD_{lead.upper()}", lead) for lead in LEADS),
        *((f"Lead {lead}", lead) for lead in LEADS),
        *((f"ECG {lead}", lead) for lead in LEADS),
        ("Lead I (Einthoven)", "I"),
        ("MLI", "I"),
        ("MLII", "II"),
        ("DIII", "III"),
        ("D2", "II"),
        ("C4", "V4"),
        ("leadII", "II"),
        (" aVF. ", "aVF"),
    ],
)
def test_spellings_of_a_lead(name: str, lead: str):
    assert normalize_lead(name) == lead


@pytest.mark.parametrize("name", ["-aVR", "V3R", "V7", "V", "VR", "IV", "time", "RESP", "ECG", "PLETH", "", "IIb"])
def test_what_is_none_of_the_twelve(name: str):
    assert normalize_lead(name) is None


def test_leads_are_taken_by_name_from_any_order():
    leads = make_leads(1.0)
    order = np.random.default_rng(1).permutation(12)
    found = take_leads(make_record(leads[order], tuple(LEADS[place] for place in order)))
    np.testing.assert_array_equal(found, leads)


def test_mimic_has_avf_before_avl():
    leads = make_leads(1.0)
    stored = leads[[0, 1, 2, 3, 5, 4, *range(6, 12)]]
    np.testing.assert_array_equal(take_leads(make_record(stored, MIMIC_ORDER)), leads)
    taken_by_place = take_leads(make_record(stored))
    assert not np.array_equal(taken_by_place, leads)


def test_other_channels_are_left_out():
    leads = make_leads(1.0)
    record = make_record(np.vstack([leads[:1] * 7, leads]), ("RESP", *LEADS))
    np.testing.assert_array_equal(take_leads(record), leads)


def reject(record) -> str:
    with pytest.raises(RejectedRecord) as caught:
        take_leads(record)
    assert caught.value.file == "made.ecg"
    assert str(caught.value).startswith("made.ecg: ")
    again = pickle.loads(pickle.dumps(caught.value))
    assert (again.file, again.reason) == (caught.value.file, caught.value.reason)
    return caught.value.reason


def test_a_missing_lead_is_named_beside_what_is_there():
    names = tuple("Holter" if lead == "V2" else lead for lead in LEADS)
    reason = reject(make_record(make_leads(1.0), names))
    assert "no lead V2 among its channels" in reason
    assert "Holter" in reason


def test_a_lead_that_is_there_twice_is_refused_with_both_spellings():
    reason = reject(make_record(make_leads(1.0), ("I", "MLI", *LEADS[2:])))
    assert reason.startswith("lead I is there twice ('I', 'MLI')")


def test_a_lead_without_a_sample_is_refused_and_one_with_gaps_is_not():
    leads = make_leads(1.0)
    leads[7, :100] = np.nan
    np.testing.assert_array_equal(take_leads(make_record(leads)), leads)
    leads[7] = np.nan
    assert reject(make_record(leads)).startswith("lead V2 has no sample at all")


@pytest.mark.parametrize("rate", [0.0, -500.0, np.nan, np.inf])
def test_there_must_be_a_rate(rate: float):
    assert "sampling rate" in reject(make_record(make_leads(1.0), rate=rate))


def test_units_of_voltage():
    assert [scale_to_millivolts(unit) for unit in ("mV", "uV", "µV", "μV", "V", " mv ")] == [
        1,
        1e-3,
        1e-3,
        1e-3,
        1e3,
        1,
    ]
    assert scale_to_millivolts("mmHg") is None
