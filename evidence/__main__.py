"""`python -m evidence [name ...]`: all of them, or those named. Stop it at any time; it continues where it was."""

from __future__ import annotations

import sys
from importlib import import_module

EVIDENCE = (
    "real_statistics",
    "phantom_views",
    "phantom_difficulty",
    "phantom_physiology",
    "breast_phantom",
    "breast_places",
    "phantom_pretraining",
    "real_xrays",
    "report_labeller",
    "report_facts",
    "lab_imputation",
    "alignment",
    "rare_findings",
    "report_reading",
    "paper_tables",
    "ecg_probe",
    "distillation",
    "mammograms",
)

if __name__ == "__main__":
    for name in sys.argv[1:] or EVIDENCE:
        if name not in EVIDENCE:
            sys.exit(f"There is no evidence '{name}': {', '.join(EVIDENCE)}.")
        import_module(f"evidence.{name}").main()
