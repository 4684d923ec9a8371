"""Mammograms as DICOM files: the same grey however it is written, and what is not taken and why."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from dicom_files import reason_of
from pydicom import dcmread, dcmwrite
from pydicom.dataset import Dataset
from pydicom.uid import (
    BreastTomosynthesisImageStorage,
    ExplicitVRBigEndian,
    JPEG2000Lossless,
    RLELossless,
    SecondaryCaptureImageStorage,
)

from breast_pictures import draw_breast, write_mammogram
from hilum.imaging.intensity import POLICIES, is_mammographic
from hilum.imaging.mammography.frame import frame_breast
from hilum.imaging.read import read_image
from hilum.imaging.resize import quantize

PICTURE = draw_breast(letters=True)
LOW, HIGH = 400, 2400  # the window that all files show
TAKEN = "mammo-auto-1"


def make_lut(first: int, values: np.ndarray, bits: int) -> Dataset:
    item = Dataset()
    item.LUTDescriptor = [len(values) % 65536, first, bits]
    item.LUTData = values.astype("<u2").tobytes()
    return item


def make_code(value: str) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, "SCT", "as coded"
    return item


def shown(levels: np.ndarray, top: int) -> np.ndarray:
    """The window by hand, as whole numbers up to `top`."""
    return np.rint(np.clip((levels.astype(float) - LOW) / (HIGH - LOW), 0, 1) * top).astype(np.int64)


def write_variants(folder: Path) -> dict[str, Path]:
    """One picture in every way a maker may write it."""
    levels = np.arange(4096)
    exact = {"WindowCenter": (LOW + HIGH) / 2, "WindowWidth": HIGH - LOW, "VOILUTFunction": "LINEAR_EXACT"}
    linear = {"WindowCenter": (LOW + HIGH) / 2 + 0.5, "WindowWidth": HIGH - LOW + 1}  # C.11.2.1.2.1
    table, inverse_table = shown(levels, 4095), shown(4095 - levels, 4095)
    mono1 = {"PhotometricInterpretation": "MONOCHROME1"}
    files = {
        "exact": (PICTURE, exact),
        "linear": (PICTURE, linear),
        "two windows": (PICTURE, linear | {"WindowCenter": [linear["WindowCenter"], 9], "WindowWidth": [2001, 3]}),
        "table": (PICTURE, {"VOILUTSequence": [make_lut(0, table, 12)]}),
        # The table is before the window where a file has both.
        "table and window": (
            PICTURE,
            {"VOILUTSequence": [make_lut(0, table, 12)], "WindowCenter": 99, "WindowWidth": 7},
        ),
        "short table": (PICTURE, {"VOILUTSequence": [make_lut(LOW, shown(levels[LOW : HIGH + 1], 65535), 16)]}),
        # MONOCHROME1: high values are black; the window speaks of the values as stored.
        "inverse": (
            4095 - PICTURE,
            mono1 | exact | {"WindowCenter": 4095 - exact["WindowCenter"]},
        ),
        "inverse table": (4095 - PICTURE, mono1 | {"VOILUTSequence": [make_lut(0, 4095 - inverse_table, 12)]}),
        "inverse said twice": (
            4095 - PICTURE,
            mono1 | exact | {"WindowCenter": 4095 - exact["WindowCenter"], "PresentationLUTShape": "INVERSE"},
        ),
        "rescaled": (
            PICTURE,
            exact | {"RescaleSlope": 2, "RescaleIntercept": -1000, "WindowCenter": 1800, "WindowWidth": 4000},
        ),
        "modality table": (
            PICTURE,
            exact | {"ModalityLUTSequence": [make_lut(0, levels * 8, 16)], "WindowCenter": 11200, "WindowWidth": 16000},
        ),
        "signed": ((PICTURE.astype(np.int16) - 2048), exact | {"WindowCenter": exact["WindowCenter"] - 2048}),
    }
    return {
        name: write_mammogram(folder / f"{name.replace(' ', '-')}.dcm", values, **facts)
        for name, (values, facts) in files.items()
    }


def test_one_picture_is_the_same_however_it_is_written(tmp_path: Path):
    files = write_variants(tmp_path)
    for syntax in (RLELossless, JPEG2000Lossless):
        dataset = dcmread(files["exact"])
        dataset.compress(syntax)
        files[syntax.name] = tmp_path / f"{syntax}.dcm"
        dataset.save_as(files[syntax.name])
    swapped = dcmread(files["exact"])
    swapped.file_meta.TransferSyntaxUID = ExplicitVRBigEndian
    swapped.PixelData = PICTURE.astype(">u2").tobytes()
    dcmwrite(tmp_path / "big.dcm", swapped, implicit_vr=False, little_endian=False, force_encoding=True)
    files["big endian"] = tmp_path / "big.dcm"

    expected = shown(PICTURE, 255)
    frames = {}
    for name, path in files.items():
        pixels = read_image(path, TAKEN).pixels
        assert np.abs(quantize(pixels, 8).astype(int) - expected).max() <= 1, name
        framed = frame_breast(pixels, (200, 120))
        frames[name] = quantize(framed.pixels, 8).astype(int)
        assert framed.fault == ""
    for name, pixels in frames.items():
        assert np.abs(pixels - frames["exact"]).max() <= 1, name


def test_a_sigmoid_is_a_sigmoid(tmp_path: Path):
    facts = {"WindowCenter": 1400, "WindowWidth": 1000, "VOILUTFunction": "SIGMOID"}
    pixels = read_image(write_mammogram(tmp_path / "a.dcm", PICTURE, **facts), TAKEN).pixels
    np.testing.assert_allclose(pixels, 1 / (1 + np.exp(-4 * (PICTURE - 1400.0) / 1000)), atol=1e-6)


@pytest.mark.parametrize(
    "facts",
    [
        {"WindowCenter": 1000, "WindowWidth": 0},
        {"WindowCenter": 1000, "WindowWidth": -5},
        {"WindowCenter": 1000, "WindowWidth": 100, "VOILUTFunction": "GAMMA"},
        {"WindowCenter": 1000},
        {},
    ],
)
def test_without_a_usable_window_percentiles_are_taken(tmp_path: Path, facts: dict):
    path = write_mammogram(tmp_path / "a.dcm", PICTURE, **facts)
    np.testing.assert_array_equal(read_image(path, TAKEN).pixels, read_image(path, "mammo-percentile-1").pixels)


def test_policies_differ_as_their_names_say(tmp_path: Path):
    path = write_mammogram(tmp_path / "a.dcm", PICTURE, WindowCenter=1400, WindowWidth=2000)
    pixels = {policy: read_image(path, policy).pixels for policy in POLICIES if is_mammographic(policy)}
    assert len(pixels) == 5
    np.testing.assert_allclose(pixels["mammo-none-1"], PICTURE / 4095, atol=1e-6)
    low, high = int(PICTURE.min()), int(PICTURE.max())
    np.testing.assert_allclose(pixels["mammo-minmax-1"], (PICTURE - float(low)) / (high - low), atol=1e-6)
    one, other = np.percentile(PICTURE, [0.5, 99.5])
    clipped = np.clip((PICTURE - one) / (other - one), 0, 1)
    np.testing.assert_allclose(pixels["mammo-percentile-1"], clipped, atol=5e-3)
    assert len({pixels[policy].tobytes() for policy in pixels}) == 5


def test_no_policy_of_the_stored_range_looks_at_the_values(tmp_path: Path):
    facts = {"RescaleSlope": -1, "RescaleIntercept": 100}
    pixels = read_image(write_mammogram(tmp_path / "a.dcm", PICTURE, **facts), "mammo-none-1").pixels
    np.testing.assert_allclose(pixels, 1 - PICTURE / 4095, atol=1e-6)
    signed = write_mammogram(tmp_path / "b.dcm", PICTURE.astype(np.int16) - 2048)
    np.testing.assert_allclose(read_image(signed, "mammo-none-1").pixels, PICTURE / 4095, atol=1e-6)


# --- what is not taken


def with_modifier(code: str) -> list[Dataset]:
    view = make_code("399162004")
    view.ViewModifierCodeSequence = [make_code(code)]
    return [view]


SPECIALS = {
    "spot code": ("spot", {"ViewCodeSequence": with_modifier("399055006")}),
    "magnification code": ("spot", {"ViewCodeSequence": with_modifier("399163009")}),
    "magnified": ("spot", {"EstimatedRadiographicMagnificationFactor": "1.8"}),
    "said to be spot": ("spot", {"SeriesDescription": "L CC Spot"}),
    "magnified view": ("spot", {"ViewPosition": "MCC"}),
    "displaced code": ("displaced", {"ViewCodeSequence": with_modifier("399209000")}),
    "displaced by name": ("displaced", {"SeriesDescription": "R MLO ID"}),
    "C-View": ("synthetic", {"SeriesDescription": "L CC C-View"}),
    "generated": ("synthetic", {"ImageType": ["DERIVED", "PRIMARY", "TOMOSYNTHESIS", "GENERATED_2D"]}),
    "capture": ("secondary", {"SOPClassUID": SecondaryCaptureImageStorage, "ConversionType": "WSD"}),
    "raw": ("processing", {"PresentationIntentType": "FOR PROCESSING"}),
}


@pytest.mark.parametrize("name", SPECIALS)
def test_special_mammograms_are_refused_unless_asked_for(tmp_path: Path, name: str):
    kind, facts = SPECIALS[name]
    path = write_mammogram(tmp_path / "a.dcm", PICTURE, **facts)
    assert f"--take {kind}" in reason_of(path, policy=TAKEN)
    assert read_image(path, TAKEN, take=[kind]).tagged is not None


def test_a_file_that_is_special_twice_must_be_asked_for_twice(tmp_path: Path):
    path = write_mammogram(tmp_path / "a.dcm", PICTURE, SeriesDescription="L CC spot C-View")
    assert "--take spot" in reason_of(path, policy=TAKEN, take=["synthetic"])
    read_image(path, TAKEN, take=["synthetic", "spot"])


@pytest.mark.parametrize(
    ("facts", "reason"),
    [
        ({"SOPClassUID": BreastTomosynthesisImageStorage, "NumberOfFrames": 30}, "a tomosynthesis volume of 30 frames"),
        ({"ImageType": ["DERIVED", "PRIMARY", "TOMOSYNTHESIS", "NONE"]}, "a slice of a tomosynthesis"),
        ({"Modality": "DX", "BodyPartExamined": "CHEST"}, "no mammogram: modality DX, body part CHEST"),
        ({"QualityControlImage": "YES"}, "a test object"),
        ({"SeriesDescription": "Specimen"}, "a specimen"),
        ({"BurnedInAnnotation": "YES"}, "burned into the pixels"),
    ],
)
def test_what_is_no_mammogram_is_refused_with_its_reason(tmp_path: Path, facts: dict, reason: str):
    path = write_mammogram(tmp_path / "a.dcm", PICTURE, **facts)
    every = ["spot", "displaced", "synthetic", "secondary", "processing"]
    assert reason in reason_of(path, policy=TAKEN, take=every)


def test_standard_views_and_digitised_films_are_taken_and_an_implant_is_told(tmp_path: Path):
    facts = {"ViewPosition": "MLO", "ImageLaterality": "R", "BreastImplantPresent": "YES"}
    image = read_image(write_mammogram(tmp_path / "a.dcm", PICTURE, **facts), TAKEN)
    assert (image.tagged, image.implant) == (("mlo", "right"), True)
    # "Mammo" in a description is no magnification, ML is not MLO, contact magnifies a little.
    facts = {"SeriesDescription": "Mammo L ML", "ViewPosition": "ML", "EstimatedRadiographicMagnificationFactor": 1.07}
    assert read_image(write_mammogram(tmp_path / "b.dcm", PICTURE, **facts), TAKEN).tagged.kind == "unknown"
    film = {"SOPClassUID": SecondaryCaptureImageStorage, "ConversionType": "DF", "Modality": "RG"}
    assert read_image(write_mammogram(tmp_path / "c.dcm", PICTURE, **film), TAKEN).tagged.kind == "unknown"
    coded = write_mammogram(tmp_path / "d.dcm", PICTURE, ViewCodeSequence=[make_code("399368009")], Laterality="L")
    assert read_image(coded, TAKEN).tagged == ("mlo", "left")


def test_a_reversed_film_is_turned_by_what_is_seen(tmp_path: Path):
    mirrored = write_mammogram(tmp_path / "a.dcm", draw_breast("right"), ImageLaterality="L", ViewPosition="CC")
    image = read_image(mirrored, TAKEN)
    framed = frame_breast(image.pixels, (200, 120))
    assert (image.tagged.laterality, framed.chest_wall) == ("left", "right")
    straight = read_image(write_mammogram(tmp_path / "b.dcm", draw_breast("left")), TAKEN)
    np.testing.assert_array_equal(framed.pixels, frame_breast(straight.pixels, (200, 120)).pixels)


@pytest.mark.needs_real_data
def test_the_real_film_is_taken_and_the_real_tomosynthesis_refused(real_data: Path):
    film = read_image(real_data / "dicom" / "MG1_LMLO_J2KI.dcm", TAKEN)
    assert film.tagged == ("mlo", "left")
    assert frame_breast(film.pixels[::4, ::4], (200, 120)).chest_wall == "left"
    assert "a tomosynthesis volume of 4 frames" in reason_of(real_data / "dicom" / "dbt_CC_j2k_3d.dcm", policy=TAKEN)
    assert "no mammogram" in reason_of(real_data / "dicom" / "RG1_J2KI.dcm", policy=TAKEN)
