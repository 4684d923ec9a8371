"""Segmentation end to end on small images: it learns, controls do not, and a killed training continues to the bit."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from hilum.cache import Cache
from hilum.config import CropConfig
from hilum.errors import UserError
from hilum.evaluate.distilled.record import record_segmentation
from hilum.evaluate.result import dump_result
from hilum.evaluate.scoring.dealing import deal
from hilum.evaluate.segmentation.frozen_layers import FrozenLayers, Screen, Shown, change, show_plainly
from hilum.evaluate.segmentation.masks import MaskTable, build_masks, read_phantom_masks
from hilum.evaluate.segmentation.run import segment_encoder
from hilum.evaluate.segmentation.settings import SegmentationSettings
from hilum.evaluate.segmentation.state import Segmented, Segmenting, draw_shown
from hilum.model.encoder import Encoder

CENTER = CropConfig(mode="center")


def draw_bright(cache: Cache, view: int) -> np.ndarray:
    """Blocks of the image that are plainly bright."""
    return cache.image(view) > 135


@pytest.fixture(scope="module")
def masks(shown_cache: Cache) -> MaskTable:
    """Of the first 150 views; a second structure that only some have been drawn for."""
    drawn = (
        (view, {"bright": (bright := draw_bright(shown_cache, view)), "dark": ~bright if view % 3 else None})
        for view in range(150)
    )
    return build_masks(shown_cache, drawn, ("bright", "dark"), size=32, crop=CENTER)


def segment(cache: Cache, encoder: Encoder, masks: MaskTable, checkpoints: Path | None = None, **how) -> Segmented:
    settings = SegmentationSettings(**{"epochs": 12, "views_per_step": 8, "lr": 1e-2, "precision": "32-true", **how})
    return segment_encoder(
        cache, encoder, masks, settings, name="toy", mean=cache.mean, std=cache.std, checkpoints=checkpoints,
        checkpoint_minutes=0.0, progress=False,
    )  # fmt: skip


def test_masks_lie_on_the_squares_row_for_row(shown_cache: Cache, masks: MaskTable):
    assert masks.mask.shape == (150, 2, 32, 32)
    assert np.array_equal(masks.view_row, np.arange(150))
    assert np.array_equal(masks.known[:, 0], np.ones(150, bool))
    assert np.array_equal(masks.known[:, 1], np.arange(150) % 3 > 0)
    for view in (0, 7):
        fine = draw_bright(shown_cache, view)
        assert np.array_equal(masks.mask[view, 0], fine.reshape(32, 2, 32, 2).mean(axis=(1, 3)) >= 0.5)
    study = shown_cache.views["study"][:150]
    assert np.array_equal(masks.patient, shown_cache.studies["patient"][study])
    assert sum(len(masks.rows(split)) for split in ("train", "val", "test")) == 150
    other = build_masks(shown_cache, [(3, {"bright": draw_bright(shown_cache, 3)})], ("bright",), size=32, crop=CENTER)
    assert np.array_equal(other.mask[0, 0], masks.mask[3, 0])
    assert other.hash() != masks.hash()


def test_masks_that_cannot_be_meant_are_refused(shown_cache: Cache):
    whole = np.ones((64, 64), bool)
    how = {"size": 32, "crop": CENTER}
    with pytest.raises(UserError, match="has masks twice"):
        build_masks(shown_cache, [(2, {"a": whole}), (2, {"a": whole})], ("a",), **how)
    with pytest.raises(UserError, match="no view has a mask of a"):
        build_masks(shown_cache, [], ("a",), **how)
    with pytest.raises(UserError, match="64 x 32 pixels, its image 64 x 64: other proportions"):
        build_masks(shown_cache, [(0, {"a": whole[:, :32]})], ("a",), **how)


def test_a_decoder_learns_on_a_frozen_encoder_and_other_images_masks_teach_nothing(
    shown_cache: Cache, encoder: Encoder, masks: MaskTable
):
    before = copy.deepcopy(encoder.state_dict())
    found = segment(shown_cache, encoder, masks)
    assert all(torch.equal(before[key], value) for key, value in encoder.state_dict().items())
    wrong = masks.mask.copy()
    for split in ("train", "val"):
        rows = masks.rows(split)
        wrong[rows] = masks.mask[rows[deal(masks.patient[rows], 0)]]
    control = segment(shown_cache, encoder, replace(masks, mask=wrong))
    ours, theirs = (result.test.read("dice")[:, 0].mean() for result in (found, control))
    assert ours > theirs + 0.15
    assert found.best_epoch == max(found.history, key=lambda entry: entry["val_dice"])["epoch"]
    assert [entry["epoch"] for entry in found.history] == list(range(1, 13))
    assert found.history[-1]["loss"] < found.history[0]["loss"]
    assert found.counts["test_views"] == len(masks.rows("test"))
    assert found.trained_encoder is None
    assert found.settings["decoder_parameters"] == sum(part.numel() for part in found.decoder.parameters())
    assert np.array_equal(found.test.view_row, masks.view_row[masks.rows("test")])
    record = record_segmentation(found, shown_cache, num_resamples=20)
    assert record.find("dice", "bright").value == pytest.approx(ours)
    assert dump_result(record)["protocol"]["decoder"] == "light"


class KilledError(Exception):
    pass


@pytest.mark.parametrize("how", [{}, {"train_encoder": True, "augment": "flip-turn"}], ids=["frozen", "trained"])
def test_a_training_that_was_killed_continues_to_the_same_bits(
    shown_cache: Cache, encoder: Encoder, masks: MaskTable, tmp_path: Path, monkeypatch, how
):
    how = {"epochs": 3, "views_per_step": 20, **how}
    whole = segment(shown_cache, encoder, masks, **how)

    real = Segmenting.take_step

    def kill_later(state: Segmenting, rows):
        if state.training.num_done == 5:
            raise KilledError
        return real(state, rows)

    monkeypatch.setattr(Segmenting, "take_step", kill_later)
    with pytest.raises(KilledError):
        segment(shown_cache, encoder, masks, tmp_path / "checkpoints", **how)
    monkeypatch.setattr(Segmenting, "take_step", real)
    again = segment(shown_cache, encoder, masks, tmp_path / "checkpoints", **how)
    for key, value in whole.decoder.state_dict().items():
        assert torch.equal(again.decoder.state_dict()[key], value), key
    if whole.trained_encoder is not None:
        moved = [
            not torch.equal(value, encoder.state_dict()[key])
            for key, value in whole.trained_encoder.state_dict().items()
        ]
        assert any(moved), "the encoder was trained"
        for key, value in whole.trained_encoder.state_dict().items():
            assert torch.equal(again.trained_encoder.state_dict()[key], value), key
    for one, other in zip(whole.history, again.history, strict=True):
        assert {**one, "seconds": 0} == {**other, "seconds": 0}
    assert np.array_equal(whole.test.areas.both, again.test.areas.both)


def test_the_stronger_decoder_trains(shown_cache: Cache, encoder: Encoder, masks: MaskTable):
    pytest.importorskip("segmentation_models_pytorch")
    found = segment(shown_cache, encoder, masks, decoder="dpt", epochs=2, views_per_step=32)
    assert found.settings["decoder"] == "dpt"
    assert found.history[-1]["loss"] < found.history[0]["loss"]


def test_kept_tokens_are_those_that_are_computed_again(shown_cache: Cache, encoder: Encoder):
    rows = np.array([2, 5, 6, 11])
    screen = Screen(shown_cache, encoder, shown_cache.mean, shown_cache.std, CENTER, "32-true", 4)
    kept = FrozenLayers(screen, rows, mirrored=True, batch_views=3)
    fresh = FrozenLayers(screen, rows, mirrored=True, limit=10)
    assert len(kept.kept) == 2
    assert not fresh.kept
    shown = Shown(np.array([11, 2, 5]), np.array([True, False, True]), np.zeros(3))
    for one, other in zip(kept.read(shown), fresh.read(shown), strict=True):
        assert one.shape == (3, 16, 32)
        torch.testing.assert_close(one, other, atol=2e-3, rtol=2e-3)
    plain = kept.read(show_plainly(np.array([11])))[0]
    assert not torch.allclose(plain, kept.read(shown)[0][:1], atol=1e-2)


def test_images_and_masks_are_mirrored_and_turned_together():
    """A mark right of the middle: mirrored it is left of it; turned by 90 degrees counter-clockwise it is above."""
    image = torch.zeros(1, 1, 9, 9)
    image[0, 0, 4, 7] = 1
    still = np.zeros(1)
    left = change(image, Shown(np.zeros(1, int), np.array([True]), still))
    assert left[0, 0, 4, 1] == 1
    above = change(image, Shown(np.zeros(1, int), np.array([False]), np.array([90.0])))
    assert above[0, 0, 1, 4] == 1
    assert above.sum() == 1
    assert torch.equal(change(image, Shown(np.zeros(1, int), np.array([False]), still)), image)


def test_half_of_the_views_are_mirrored_anew_in_every_epoch_whatever_the_batch():
    rows = np.arange(400)
    shown = draw_shown(rows, "flip-turn", 0, 3)
    assert 0.4 < shown.mirrored.mean() < 0.6
    assert np.abs(shown.degrees).max() <= 10
    assert shown.degrees.std() == pytest.approx(10 / 3**0.5, rel=0.1)
    part = draw_shown(rows[100:110], "flip-turn", 0, 3)
    assert np.array_equal(part.mirrored, shown.mirrored[100:110])
    assert np.array_equal(part.degrees, shown.degrees[100:110])
    assert not np.array_equal(draw_shown(rows, "flip", 0, 4).mirrored, shown.mirrored)
    assert not draw_shown(rows, "flip", 0, 3).degrees.any()
    assert not draw_shown(rows, "none", 0, 3).mirrored.any()


def test_what_comes_in_from_outside_is_black(shown_cache: Cache, encoder: Encoder):
    screen = Screen(shown_cache, encoder, shown_cache.mean, shown_cache.std, CENTER, "32-true", 1)
    turned = screen.read_pixels(Shown(np.array([0]), np.array([False]), np.array([45.0])))
    assert turned[0, 0, 0, 0].item() == pytest.approx(-shown_cache.mean / shown_cache.std, abs=1e-4)


def test_what_cannot_be_segmented_is_refused(shown_cache: Cache, encoder: Encoder, masks: MaskTable):
    with pytest.raises(UserError, match="of 16 px, the encoder reads 32 px"):
        segment(shown_cache, encoder, replace(masks, mask=masks.mask[:, :, ::2, ::2]))
    with pytest.raises(UserError, match="epochs is 0"):
        SegmentationSettings(epochs=0)
    known = masks.known.copy()
    known[masks.rows("val"), 1] = False
    with pytest.raises(UserError, match="no validation view with a known mask of dark"):
        segment(shown_cache, encoder, replace(masks, known=known))
    with pytest.raises(UserError, match="patients have masks in two splits"):
        segment(shown_cache, encoder, replace(masks, patient=np.zeros(150, np.int64)))


def test_the_phantoms_masks_are_read_for_the_views_of_its_cache(phantom_with_masks: tuple[Path, Cache]):
    archive, cache = phantom_with_masks
    names = ("heart", "lungs", "bone", "Pleural Effusion")
    found = build_masks(
        cache, read_phantom_masks(archive, cache, names), names, size=32, crop=CropConfig(mode="squash")
    )
    assert np.array_equal(found.view_row, np.arange(len(cache.views)))
    assert found.known.all()
    share = found.mask.mean(axis=(2, 3))
    frontal = cache.views["view_kind"] == 0
    assert (share[frontal, 0] > 0.02).all()
    assert (share[frontal, 1] > share[frontal, 0]).all(), "lungs are larger than hearts"
    assert (share[:, 2] > 0.05).all()
    with pytest.raises(UserError, match="there is no mask of 'liver'"):
        list(read_phantom_masks(archive, cache, ("liver",)))
    with pytest.raises(UserError, match="hilum phantom --masks"):
        list(read_phantom_masks(archive / "files", cache, names))
