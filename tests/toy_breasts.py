"""Breasts for tests."""

from __future__ import annotations

from hilum.text.breast.record import BreastRecord, Finding, Location

RICH = BreastRecord(
    "toy", "patient-4711", "study-0815", "left", 4, "breast", "c", views=("cc", "mlo"),
    findings=(
        Finding(
            "mass", shapes=("oval",), margins=("indistinct",), mass_density="high", size_mm=12.0, size_source="box",
            views=("mlo",), location=Location("upper", "outer", "posterior"), birads=4,
        ),
        Finding(
            "calcification", suspicious=True, morphologies=("amorphous",), distributions=("grouped",),
            views=("cc", "mlo"), birads=3,
        ),
    ),
    exhaustive=("mass", "calcification", "architectural distortion", "asymmetry"),
)  # fmt: skip
NEGATIVE = BreastRecord(
    "toy", "patient-4711", "study-0815", "right", 1, "breast", "b", views=("cc", "mlo"),
    exhaustive=("mass", "calcification", "architectural distortion", "asymmetry"),
)  # fmt: skip
SPARSE = BreastRecord("toy", "patient-12", "study-99", "right", density="d")
EMPTY = BreastRecord("toy", "patient-13", "study-98", "left", views=("mlo",))
