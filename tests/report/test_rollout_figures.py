"""Figures of attention rollout: they are drawn, alike every time, and show what they say."""

from __future__ import annotations

import base64
import io
import re

import numpy as np
import pytest
from PIL import Image

from hilum.report.rollout_figures import RolloutCase, draw_rollouts, encode_rollouts, relate, subtract


def make_case(hot: int, title: str = "first") -> RolloutCase:
    image = np.linspace(0, 1, 32 * 32).reshape(32, 32)
    heart = np.zeros((32, 32), bool)
    heart[10:20, 10:20] = True
    even = np.full(16, 1 / 16)
    moved = np.full(16, 0.5 / 15)
    moved[hot] = 0.5
    return RolloutCase(image, even, moved, title, {"heart": heart})


def test_an_even_rollout_is_one_everywhere_and_shifts_add_up_to_nothing() -> None:
    case = make_case(5)
    assert relate(case.first).tolist() == np.ones((4, 4)).tolist()
    shift = subtract(relate(case.second), relate(case.first))
    assert np.unravel_index(shift.argmax(), shift.shape) == (1, 1)
    assert shift.sum() == pytest.approx(0)
    finer = subtract(np.ones((6, 6)), np.ones((4, 4)))
    assert finer.shape == (12, 12)
    assert not finer.any()


def test_a_row_of_four_panels_a_case_on_one_scale() -> None:
    with draw_rollouts([make_case(5), make_case(9, "second")], ("MAE", "PaCX")) as figure:
        panels = figure.axes
        assert len(panels) == 8
        assert [panel.get_title() for panel in panels[:4]] == ["image", "MAE", "PaCX", "PaCX - MAE"]
        assert [panels[place].get_ylabel() for place in (0, 4)] == ["first", "second"]
        overlays = [panels[place].images[-1] for place in (1, 2)]
        assert overlays[0].get_clim() == overlays[1].get_clim() == (0, 8)
        low, high = panels[3].images[-1].get_clim()
        assert low == -high
        assert np.argmax(panels[3].images[-1].get_array()) == 5
        assert figure.legends[0].get_texts()[0].get_text() == "heart"


def test_the_same_figure_gives_the_same_bytes_and_a_label_for_readers() -> None:
    cases = [make_case(5)]
    element = encode_rollouts(cases, ("MAE", 'a "b" & c'))
    assert element == encode_rollouts(cases, ("MAE", 'a "b" & c'))
    label = re.search('alt="([^"]*)"', element)[1]
    assert label == "Attention rollout of MAE and a &quot;b&quot; &amp; c on 1 images"
    picture = Image.open(io.BytesIO(base64.b64decode(element.partition("base64,")[2].partition('"')[0])))
    assert np.asarray(picture.convert("L")).std() > 10
