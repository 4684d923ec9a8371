"""The published numbers that Hilum prints beside its own: copied right, and where they contradict each other."""

from __future__ import annotations

import copy
from importlib.resources import files
from typing import Any

import paper_numbers as paper
import pytest
import yaml


@pytest.fixture(scope="module")
def numbers() -> dict[str, Any]:
    return yaml.safe_load((files("hilum.evaluate.paper") / "mvmae" / "published.yaml").read_text(encoding="utf-8"))


def test_every_table_is_there_in_its_shape(numbers: dict[str, Any]) -> None:
    assert list(numbers) == [
        "table1_full_labels", "table2_top5", "table3_brier_probe_20k", "table4_datasets", "table5_7_per_label_auroc",
        "table8_two_view_studies_probe_5k", "figure5_delta_from_table8", "label_efficiency",
    ]  # fmt: skip
    assert paper.list_misshapen(numbers) == []
    six = ["supervised", "independent", "biomedclip", "chexagent", "mvmae_v2t", "mvmae"]
    assert list(numbers["table1_full_labels"]) == list(numbers["table2_top5"]) == six
    assert list(numbers["table3_brier_probe_20k"]) == [model for model in six if model != "chexagent"]


def test_per_label_tables_give_table_1_but_for_the_known_four(numbers: dict[str, Any]) -> None:
    """M 5, M 8-30: |mean per label - Table 1| <= 0.1 but for BiomedCLIP's three and Independent on PadChest."""
    assert len(paper.compare_with_table1(numbers)) == 15
    found = paper.list_contradictions(numbers)
    assert found.keys() == paper.CONTRADICTIONS.keys()
    for key, value in paper.CONTRADICTIONS.items():
        assert found[key] == pytest.approx(value, abs=0.06)


def test_the_means_per_label_are_those_of_the_specification(numbers: dict[str, Any]) -> None:
    """M 5, to its two digits; BiomedCLIP's are the fairer baseline 79.7 / 81.6 / 84.3."""
    wanted = {
        "mimic": (78.93, 81.36, 79.71, 80.57, 82.79),
        "chexpert": (77.07, 81.57, 81.57, 82.86, 82.57),
        "padchest": (85.57, 88.71, 84.29, 88.21, 89.29),
    }
    means = paper.average_per_label(numbers)
    for dataset, values in wanted.items():
        for model, value in zip(paper.PER_LABEL_MODELS, values, strict=True):
            assert means[model, dataset] == pytest.approx(value, abs=0.00501), (model, dataset)


def test_studies_add_up_to_the_archives(numbers: dict[str, Any]) -> None:
    """M 8-30 and M 1.3."""
    assert paper.sum_studies(numbers) == {
        "mimic_cxr": 227_835,
        "chexpert": 188_211,
        "padchest": 109_931,
        "chest_xray": 112_120,
    }


def test_combined_is_no_mean_of_the_three(numbers: dict[str, Any]) -> None:
    """M 4.2: 84.80 against 87.43, although the caption says average."""
    assert paper.average_of_datasets(numbers, "mvmae") == pytest.approx(84.80, abs=0.005)
    assert paper.read_auroc(numbers, "mvmae", "combined") == 87.43
    headline = [paper.read_auroc(numbers, "mvmae", dataset) for dataset in paper.DATASETS]
    assert headline == [82.74, 82.48, 89.19, 87.43]


def test_gains_of_a_second_view(numbers: dict[str, Any]) -> None:
    """M 9-16 and Figure 5, both derived from Table 8."""
    gain = paper.subtract_table8(numbers, "mvmae_two_views", "mvmae_one_view")
    assert gain == pytest.approx([2.79, 3.59, 5.89, 2.87], abs=1e-9)
    for views, delta in numbers["figure5_delta_from_table8"].items():
        assert paper.subtract_table8(numbers, f"mvmae_{views}", f"independent_{views}") == pytest.approx(
            delta, abs=1e-9
        )


def test_a_number_copied_wrong_is_found(numbers: dict[str, Any]) -> None:
    """One digit in a cell of Tables 5 to 7 (by 0.04), of Table 1 (by 1), of Table 4: none passes."""
    for change in (
        lambda wrong: wrong["table5_7_per_label_auroc"]["mimic"]["Edema"].__setitem__(4, 0.85),
        lambda wrong: wrong["table1_full_labels"]["mvmae"].__setitem__(0, 83.74),
    ):
        wrong = copy.deepcopy(numbers)
        change(wrong)
        assert paper.list_contradictions(wrong).keys() != paper.CONTRADICTIONS.keys()
    wrong = copy.deepcopy(numbers)
    wrong["table4_datasets"]["padchest"][1] = 1635
    assert paper.sum_studies(wrong)["padchest"] != 109_931
    wrong["table5_7_per_label_auroc"]["padchest"].pop("Fracture")
    wrong["table3_brier_probe_20k"]["mvmae"].pop()
    assert len(paper.list_misshapen(wrong)) == 2
