"""Usual names of columns of breasts and their findings, recognised in tables that have a column of laterality."""

from __future__ import annotations

BREAST_PREFIX = "breast_"  # of further labels of a breast: breast_mass=COLUMN
# Target -> usual names, compared without case, spaces and punctuation.
BREAST_NAMES = {
    "assessment": ("birads", "breast_birads", "assessment", "birads_assessment"),
    "density": ("density", "breast_density", "tissue_density", "birads_density"),
    "implant": ("implant", "implants", "breast_implant"),
    "cancer": ("cancer", "malignant", "malignancy"),
    "years_to_cancer": ("years_to_cancer",),
    "years_to_last_followup": ("years_to_last_followup", "years_to_last_follow_up"),
    "days_to_cancer": ("days_to_cancer",),
    "days_to_last_followup": ("days_to_last_followup", "days_to_last_follow_up"),
    "finding_kind": (
        *("finding_categories", "finding_category", "finding_kind", "finding_type", "finding"),
        *("lesion_type", "lesion", "abnormality_type"),
    ),
    "finding_id": ("finding_id", "lesion_id", "abnormality_id"),
    "finding_assessment": ("finding_birads", "finding_assessment", "lesion_birads"),
    "xmin": ("xmin", "x_min"),
    "ymin": ("ymin", "y_min"),
    "xmax": ("xmax", "x_max"),
    "ymax": ("ymax", "y_max"),
    "pathology": ("pathology",),
    "shape": ("shape", "mass_shape"),
    "margin": ("margin", "margins", "mass_margin", "mass_margins"),
    "mass_density": ("mass_density",),
    "morphology": ("morphology", "calc_morphology", "calc_type", "calcification_type"),
    "distribution": ("distribution", "calc_distribution", "calcification_distribution"),
    "size_mm": ("size_mm",),
    "mask": ("finding_mask", "lesion_mask", "roi_mask_file_path"),
}
