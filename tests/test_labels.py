"""Policies turn states into targets; archives' own labels are all decided, and none contradicts No Finding."""

from __future__ import annotations

import ast
import importlib.util
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from hilum.errors import UserError
from hilum.labels import (
    DISEASES,
    FINDINGS,
    binarize_states,
    map_openi,
    read_label_map,
)

NAN = np.nan
NO_FINDING = FINDINGS.index("No Finding")
PADCHEST, CHESTXRAY14 = read_label_map("padchest"), read_label_map("chestxray14")


@pytest.fixture(scope="module")
def tables() -> Path:
    """The metadata tables that torchxrayvision ships, found without importing it."""
    found = importlib.util.find_spec("torchxrayvision")
    if found is None:
        pytest.skip("torchxrayvision is not installed: its tables of real archives are not here")
    return Path(str(found.origin)).parent / "data"


@pytest.mark.parametrize(
    ("uncertain", "blank", "expected"),
    [
        ("zeros", "zeros", [1, 0, 0, 0]),  # the paper and its code (M 8-6)
        ("ones", "zeros", [1, 0, 1, 0]),
        ("ignore", "zeros", [1, 0, NAN, 0]),
        ("zeros", "ignore", [1, 0, 0, NAN]),
        ("ignore", "ignore", [1, 0, NAN, NAN]),
        ("soft", "zeros", [1, 0, NAN, 0]),  # no metric knows a maybe
        ("soft", "ignore", [1, 0, NAN, NAN]),
    ],
)
def test_raw_states_become_targets_by_the_policies(uncertain, blank, expected) -> None:
    raw = np.array([[1, 0, -1, NAN]], dtype=np.float32)
    np.testing.assert_array_equal(binarize_states(raw, uncertain, blank), [expected])
    np.testing.assert_array_equal(raw, [[1, 0, -1, NAN]])


def list_present(states: dict[str, int | None]) -> list[str]:
    return [finding for finding, state in states.items() if state == 1]


@pytest.mark.parametrize(
    ("labels", "present"),
    [
        ([" pneumonia", "scoliosis "], ["Lung Opacity", "Pneumonia"]),
        (["hydropneumothorax"], ["Pleural Effusion", "Pneumothorax"]),
        (["subcutaneous emphysema", "pneumomediastinum", "pneumoperitoneo"], []),
        (["pericardial effusion", "aortic elongation", "mastectomy", "COPD signs"], []),
        (["callus rib fracture", "pacemaker"], ["Fracture", "Support Devices"]),
        (["normal", "unchanged"], ["No Finding"]),
        (["normal", "cardiomegaly"], ["Cardiomegaly"]),
        (["normal", "pacemaker"], ["Support Devices"]),
        (["exclude", "cardiomegaly"], []),
        ([""], []),
    ],
)
def test_padchest_labels_say_findings(labels, present) -> None:
    assert list_present(PADCHEST.map_labels(labels)) == present


def test_what_is_absent_blank_or_unknown_in_padchest_is_told_apart() -> None:
    normal = PADCHEST.map_labels(["normal"])
    assert all(normal[finding] == 0 for finding in DISEASES)
    assert normal["Support Devices"] is None  # a normal chest may hold one
    sick = PADCHEST.map_labels(["pneumonia"])
    assert (sick["No Finding"], sick["Edema"]) == (0, None)
    assert PADCHEST.map_labels(["scoliosis"])["No Finding"] is None
    assert PADCHEST.map_labels(["pacemaker"])["No Finding"] is None
    assert set(PADCHEST.map_labels(["suboptimal study", "pneumonia"]).values()) == {None}
    with pytest.raises(UserError, match=r"'pnuemonia' is none of the 193 labels that the map padchest decides"):
        PADCHEST.map_labels(["pnuemonia"])


def test_every_label_of_padchest_is_decided_and_the_counts_stay(tables) -> None:
    """M 8-3, M 9-12: on the whole real table."""
    table = pl.read_csv(
        tables / "PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv.gz",
        columns=["StudyID", "Labels"],
        infer_schema=False,
    )
    parsed = {text: ast.literal_eval(text) if text != "nan" else None for text in table["Labels"].unique()}
    raw = {label for labels in parsed.values() for label in labels or ()}
    assert (len(raw), len({label.strip() for label in raw})) == (350, 194)
    assert (table["Labels"] == "nan").sum() == 103
    assert {label.strip() for label in raw} - {""} == set(read_label_map("padchest").decisions)

    studies = table.unique("StudyID", keep="first", maintain_order=True)
    labels = [parsed[text] or [] for text in studies["Labels"]]
    assert len(labels) == 109_931
    assert sum(not each for each in labels) == 79
    assert sum(each == [""] for each in labels) == 511  # and these have but an empty one
    states = read_label_map("padchest").map_rows(labels)
    counted = dict(zip(FINDINGS, (states == 1).sum(axis=0).tolist(), strict=True))
    assert counted == {
        "Atelectasis": 7352,
        "Cardiomegaly": 9621,
        "Consolidation": 1703,
        "Edema": 3660,
        "Enlarged Cardiomediastinum": 1021,
        "Fracture": 3122,
        "Lung Lesion": 5740,
        "Lung Opacity": 25986,
        "No Finding": 35708,
        "Pleural Effusion": 6812,
        "Pleural Other": 3839,
        "Pneumonia": 5090,
        "Pneumothorax": 355,
        "Support Devices": 12609,
    }
    others = np.delete(states == 1, NO_FINDING, axis=1)
    assert not (others.any(axis=1) & (states[:, NO_FINDING] == 1)).any()
    assert read_label_map("padchest").sayable.all()


def test_chestxray14_says_eleven_findings(tables) -> None:
    """M 8-6: the other three are unknown in every image, not absent."""
    table = pl.read_csv(tables / "Data_Entry_2017_v2020.csv.gz", columns=["Finding Labels"])
    labels = [text.split("|") for text in table["Finding Labels"]]
    assert {label for each in labels for label in each} == set(CHESTXRAY14.decisions)
    states = CHESTXRAY14.map_rows(labels)
    unsayable = [FINDINGS[i] for i in np.flatnonzero(np.isnan(states).all(axis=0))]
    assert unsayable == ["Enlarged Cardiomediastinum", "Fracture", "Support Devices"]
    assert [FINDINGS[i] for i in np.flatnonzero(~CHESTXRAY14.sayable)] == unsayable
    assert (states[:, NO_FINDING] == 1).sum() == 60_361
    assert list_present(CHESTXRAY14.map_labels(["Mass", "Emphysema"])) == [
        "Lung Lesion",
        "Lung Opacity",
    ]
    assert CHESTXRAY14.map_labels(["Emphysema"])["No Finding"] is None


def test_the_longest_heading_that_fits_decides_in_openi() -> None:
    assert list_present(map_openi(["Opacity/lung/base/left/streaky"])) == ["Lung Opacity"]
    assert list_present(map_openi(["Opacity/ribs", "Thickening/pleura/apex"])) == ["Pleural Other"]
    assert list_present(map_openi(["normal"])) == ["No Finding"]
    with pytest.raises(UserError, match="'Dragons/lung' is none of"):
        map_openi(["Dragons/lung"])


@pytest.mark.parametrize("name", ["padchest", "chestxray14", "openi_mesh"])
def test_no_label_maps_to_no_finding(name) -> None:
    assert not read_label_map(name).positive[:, NO_FINDING].any()
