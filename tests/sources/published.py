"""Complete tables of public archives, from the installed package torchxrayvision, laid out as a download."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest

# Archive -> (file of the package, its published name).
TABLES = {
    "padchest": ("PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv.gz",) * 2,
    "chexpert": ("chexpert_train.csv.gz", "train.csv.gz"),
    "chestxray14": ("Data_Entry_2017_v2020.csv.gz",) * 2,
    "open-i": ("NLMCXR_reports.tgz",) * 2,
}


def lay_out(archive: str, root: Path) -> Path:
    """A folder that holds the archive's table under its published name; skips where the package is not installed."""
    spec = find_spec("torchxrayvision")  # not imported: it would load models' code
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("torchxrayvision, which holds the published tables, is not installed")
    packed, name = TABLES[archive]
    file = Path(spec.submodule_search_locations[0], "data", packed)
    root.mkdir(parents=True, exist_ok=True)
    (root / name).symlink_to(file)
    return root
