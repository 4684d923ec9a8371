"""A closed vocabulary of views: a code nobody listed is unknown."""

from __future__ import annotations

import pytest

from hilum.imaging.view import classify_name, classify_view

# The 25 raw positions of MVMAE's code (M 1.1).
FRONTAL = ["AP", "AP AXIAL", "AP RLD", "AP LLD", "PA", "PA LLD", "PA RLD"]
LATERAL = ["LATERAL", "LL", "RL", "XTABLE LATERAL"]
UNKNOWN = ["LAO", "LPO", "RAO", "RPO", "OBLIQUE", "SUPINE", "ERECT", "LLD", "DECUBITUS", "SWIMMERS", "KUB"]
UNKNOWN += ["PICC LINE", "GENERICA", "UNKNOWN"]


@pytest.mark.parametrize(
    ("position", "kind"),
    [(name, "frontal") for name in [*FRONTAL, " pa ", "Ap", "AP_HORIZONTAL", "frontal"]]
    + [(name, "lateral") for name in [*LATERAL, "lateral", "xtable  lateral", "XTABLE_LATERAL"]]
    + [(name, "unknown") for name in [*UNKNOWN, "", "APICAL", "PATELLA", "PA LATERAL", "PA/LAT", "L", "None"]]
    + [("CC", "cc"), ("mlo", "mlo"), ("ML", "unknown"), ("LM", "unknown"), ("LMO", "unknown"), ("XCCL", "unknown")],
)
def test_positions_fold(position: str, kind: str):
    assert classify_view(position) == kind


def test_position_names_are_all_25():
    assert len([*FRONTAL, *LATERAL, *UNKNOWN]) == 25


def test_description_and_orientation_count_only_without_a_position():
    assert classify_view("", description="view: PA") == "frontal"
    assert classify_view("", description="Chest lat.") == "lateral"
    assert classify_view("", description="CHEST (PA AND LAT)") == "unknown"
    assert classify_view("LLD", description="view: PA") == "unknown"
    chest = {"modality": "DX", "body_part": "CHEST"}
    assert classify_view("", orientation=["L", "F"], **chest) == "frontal"
    assert classify_view("", orientation=["P", "F"], **chest) == "lateral"
    assert classify_view("", orientation=["LA", "F"], **chest) == "unknown"
    assert classify_view("", orientation=["P", "F"]) == "unknown"
    assert classify_view("", orientation=["P", "F"], modality="CR", body_part="BREAST") == "unknown"
    assert classify_view("", orientation=["L", "F"], description="lateral", **chest) == "lateral"
    assert classify_view("OBLIQUE", orientation=["L", "F"], **chest) == "unknown"


def test_a_breast_has_no_chest_views():
    assert classify_view("LATERAL", modality="MG") == "unknown"
    assert classify_view("AP", body_part="BREAST") == "unknown"
    assert classify_view("MLO", modality="MG") == "mlo"


@pytest.mark.parametrize(
    ("name", "kind", "laterality"),
    [
        ("patient00001/study1/view1_frontal.jpg", "frontal", "unknown"),
        ("patient00001/study1/view2_lateral.jpg", "lateral", "unknown"),
        ("nyu-birads_0_L_MLO.png", "mlo", "left"),
        ("nyu-birads_0_R_CC.png", "cc", "right"),
        ("exam7/LCC.png", "cc", "left"),
        ("exam7/R_ML.png", "unknown", "unknown"),
        ("exam7/L_R_CC.png", "cc", "unknown"),
        ("lateral/017.png", "lateral", "unknown"),
        ("lateral/017_PA.png", "frontal", "unknown"),
        ("L_PA.png", "frontal", "unknown"),
        ("PA000001/ST000001/IM000001", "unknown", "unknown"),
        ("00000100_000.png", "unknown", "unknown"),
        ("flat_panel.png", "unknown", "unknown"),
        ("pa_and_lateral.png", "unknown", "unknown"),
        ("view.PA.png", "frontal", "unknown"),
    ],
)
def test_names(name: str, kind: str, laterality: str):
    assert classify_name(name) == (kind, laterality)
