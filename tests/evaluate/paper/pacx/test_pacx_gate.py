"""Nobody is tested on whom an arm has learned from: the gate of the whole suite."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from shown import write_run

from hilum.cache import Cache
from hilum.errors import UserError
from hilum.evaluate.paper.pacx import suite as pacx
from hilum.teachers.table import list_people


def test_an_arm_that_learned_from_a_test_patient_is_refused_before_anything_runs(
    shown_cache: Cache, tmp_path: Path
) -> None:
    """P 12-12: overlap 0 is a hard gate, for the arm that others are compared with and for those others."""
    honest, leaking = (write_run(tmp_path / name, shown_cache, seed) for seed, name in enumerate(("honest", "leaking")))
    test = shown_cache.table()[shown_cache.rows("test")]
    record = json.loads((leaking / "pretraining.json").read_bytes())
    record |= {"people": list_people(test[:1], shown_cache.path)}
    (leaking / "pretraining.json").write_text(json.dumps(record))
    for words in ([f"one={leaking}", f"two={honest}"], [f"one={honest}", f"two={leaking}"]):
        for part in ("probe", "finetune"):
            with pytest.raises(UserError, match=r"Leak: 1 of \d+ patients .* of the test split"):
                pacx.run_pacx(shown_cache.path, words, tmp_path / "out", parts=(part,), progress=False)
    assert not list(tmp_path.rglob("result.json"))
