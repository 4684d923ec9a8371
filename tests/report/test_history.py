"""The curve of a fine-tuning by epoch."""

from __future__ import annotations

import pytest
from matplotlib.axes import Axes

from hilum.report.probe_section import _plot_history


def test_the_dashed_line_stands_at_the_epoch_that_validation_chose(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn, draw = [], Axes.axvline

    def note(self: Axes, x: float, **style: object) -> object:
        drawn.append(x)
        return draw(self, x, **style)

    monkeypatch.setattr(Axes, "axvline", note)
    history = [{"epoch": epoch, "loss": 1 / epoch, "val_macro_auroc": 0.5} for epoch in (2, 4, 5)]
    _plot_history({"history": history, "best_epoch": 3})  # counted from 0: the fourth
    assert drawn == [4, 4]
