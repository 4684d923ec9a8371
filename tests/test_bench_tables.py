"""The bench of published tables ends with an error where a count or a cost is not as stated."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path

import pytest
from bench import record, tables

from toy_archive import write_archive


def measure(**changed: float) -> dict:
    counts = dict(zip(tables.COUNTS, tables.STATED["padchest"], strict=True))
    return {"seconds": 5.0, "cpu_seconds": 6.0, "gigabytes": 0.5, "bytes": 1, "counts": counts} | changed


def test_counts_are_of_images_patients_kinds_and_views(tmp_path: Path) -> None:
    table = write_archive(tmp_path, [1, 2, 4, 1])  # two studies a patient; frontal, lateral, then unknown
    assert tables.count_table(table) == (8, 4, 2, 4, 2, 2, 2, 1, 1)


def test_what_is_as_stated_has_no_fault_and_what_differs_has_one_each() -> None:
    assert tables.list_faults("padchest", measure()) == []
    wrong = measure(seconds=20.5, gigabytes=2.1)
    wrong["counts"] = wrong["counts"] | {"lateral": 49_578}
    assert tables.list_faults("padchest", wrong) == [
        "padchest: 49,578 lateral, stated 49,579",
        "padchest: 20.5 seconds, at most 20 wanted",
        "padchest: 2.1 gigabytes, at most 2 wanted",
    ]


def test_a_fault_is_an_error_after_the_result_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if find_spec("torchxrayvision") is None:
        pytest.skip("torchxrayvision, which holds the published tables, is not installed")
    monkeypatch.setattr(record, "FOLDER", tmp_path / "bench")
    monkeypatch.setattr(tables, "ARCHIVES", {"padchest": tables.ARCHIVES["padchest"]})
    for found, fault in ((measure(), None), (measure(gigabytes=2.1), "padchest: 2.1 gigabytes, at most 2 wanted")):
        monkeypatch.setattr(tables, "measure_ingest", lambda *_, found=found: found)
        if fault is None:
            tables.main()
            assert "as stated" in capsys.readouterr().out
        else:
            with pytest.raises(SystemExit, match=fault):
                tables.main()
        result = json.loads((tmp_path / "bench" / "tables.json").read_text())
        assert result["faults"] == ([fault] if fault else [])
