"""DICOM's own rules: what stored values mean in grey, what is refused, what leaves a header."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from dicom_files import RAMP, reason_of, write_dicom
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.filereader import dcmread
from pydicom.pixels.processing import apply_windowing

from hilum.imaging.intensity import MAMMO_CLIP, POLICIES
from hilum.imaging.read import read_image
from hilum.imaging.view import parse_age, read_dicom_header


def build_lut(first: int, values: np.ndarray, bits: int) -> Dataset:
    item = Dataset()
    item.add_new("LUTDescriptor", "SS" if first < 0 else "US", [len(values) % 65536, first, bits])
    item.add_new("LUTData", "OW", values.astype("<u2").tobytes())
    return item


def test_black_on_white_and_its_twin_give_equal_pixels(tmp_path: Path):
    plain = write_dicom(tmp_path / "a.dcm", RAMP, WindowCenter=2000, WindowWidth=3000)
    twin = write_dicom(
        tmp_path / "b.dcm",
        4095 - RAMP,
        PhotometricInterpretation="MONOCHROME1",
        PresentationLUTShape="INVERSE",  # says the same again: not inverted twice
        WindowCenter=4095 - 2000 + 1,
        WindowWidth=3000,
    )
    np.testing.assert_allclose(read_image(plain).pixels, read_image(twin).pixels, atol=1e-6)
    robust = write_dicom(tmp_path / "c.dcm", RAMP)
    robust_twin = write_dicom(tmp_path / "d.dcm", 4095 - RAMP, PhotometricInterpretation="MONOCHROME1")
    np.testing.assert_allclose(read_image(robust).pixels, read_image(robust_twin).pixels, atol=1e-6)
    inverse_only = write_dicom(tmp_path / "e.dcm", 4095 - RAMP, PresentationLUTShape="INVERSE")
    np.testing.assert_allclose(read_image(robust).pixels, read_image(inverse_only).pixels, atol=1e-6)


def test_window_counts_in_units_of_the_modality_output(tmp_path: Path):
    path = write_dicom(
        tmp_path / "a.dcm", RAMP, RescaleSlope=2, RescaleIntercept=-100, WindowCenter=[0, 900], WindowWidth=[0, 1001]
    )
    expected = np.clip((2.0 * RAMP - 100 - 899.5) / 1000 + 0.5, 0, 1)  # the first pair has no width: not a window
    np.testing.assert_allclose(read_image(path).pixels, expected, atol=1e-6)


@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID"])
def test_window_functions_agree_with_pydicom(tmp_path: Path, function: str):
    path = write_dicom(tmp_path / "a.dcm", RAMP, WindowCenter=1500, WindowWidth=900, VOILUTFunction=function)
    oracle = apply_windowing(RAMP, dcmread(path)) / 4095
    np.testing.assert_allclose(read_image(path).pixels, oracle, atol=1e-6)


def test_voi_table_goes_before_the_window(tmp_path: Path):
    table = np.linspace(0, 1023, 200).round() ** 2 // 1023
    path = write_dicom(
        tmp_path / "a.dcm", RAMP, WindowCenter=10, WindowWidth=10, VOILUTSequence=[build_lut(1000, table, 10)]
    )
    expected = table[np.clip(RAMP.astype(int) - 1000, 0, 199)] / 1023
    np.testing.assert_allclose(read_image(path).pixels, expected, atol=1e-6)


def test_modality_table_with_negative_inputs(tmp_path: Path):
    values = (RAMP.astype(np.int16) - 2048).astype(np.int16)
    item = build_lut(-2048, np.arange(4096)[::-1] * 16, 16)
    path = write_dicom(tmp_path / "a.dcm", values, ModalityLUTSequence=[item], WindowCenter=32768, WindowWidth=65536)
    expected = np.clip(((4095 - RAMP.astype(int)) * 16 - 32767.5) / 65535 + 0.5, 0, 1)
    np.testing.assert_allclose(read_image(path).pixels, expected, atol=1e-6)


def test_negative_slope_turns_the_grey_scale_around(tmp_path: Path):
    turned = read_image(write_dicom(tmp_path / "a.dcm", RAMP, RescaleSlope=-1, RescaleIntercept=4095)).pixels
    mirrored = read_image(write_dicom(tmp_path / "b.dcm", 4095 - RAMP)).pixels
    np.testing.assert_array_equal(turned, mirrored)


def test_a_table_of_65536_entries_says_0_of_them(tmp_path: Path):
    item = build_lut(0, np.arange(65536)[::-1], 16)
    values = RAMP * 16
    path = write_dicom(tmp_path / "a.dcm", values, bits=16, VOILUTSequence=[item])
    assert dcmread(path).VOILUTSequence[0].LUTDescriptor[0] == 0
    np.testing.assert_allclose(read_image(path).pixels, 1 - values / 65535, atol=1e-6)


def test_sixteen_bit_attributes_under_the_wrong_sign(tmp_path: Path):
    """-2000 written as 63536 and 40000 as -25536, which scanners do."""
    values = np.vstack([RAMP[:8], RAMP]).astype(np.int16)
    values[:8] = -2000
    path = write_dicom(tmp_path / "a.dcm", values, bits=16)
    dataset = dcmread(path)
    dataset.add_new("PixelPaddingValue", "US", 63536)
    dataset.save_as(path)
    pixels = read_image(path).pixels
    bare = write_dicom(tmp_path / "b.dcm", values[8:].copy(), bits=16)
    np.testing.assert_array_equal(pixels[8:], read_image(bare).pixels)

    values = RAMP * 16
    item = build_lut(0, np.arange(1000), 10)
    item.add_new("LUTDescriptor", "SS", [1000, 40000 - 65536, 10])
    path = write_dicom(tmp_path / "c.dcm", values, bits=16, VOILUTSequence=[item])
    expected = np.clip(values.astype(int) - 40000, 0, 999) / 1023
    np.testing.assert_allclose(read_image(path).pixels, expected, atol=1e-6)


def test_without_a_window_half_a_percent_at_each_end_is_clipped(tmp_path: Path):
    values = np.arange(10_000, dtype=np.uint16).reshape(100, 100)
    pixels = read_image(write_dicom(tmp_path / "a.dcm", values, bits=14)).pixels
    np.testing.assert_allclose(pixels, np.clip((values - 49.0) / (9950 - 49), 0, 1), atol=1e-6)


def test_padding_is_black_and_enters_no_percentile(tmp_path: Path):
    framed = np.full((100, 100), 4000, dtype=np.uint16)
    framed[10:90, 10:90] = np.arange(6400).reshape(80, 80) % 3000
    path = write_dicom(
        tmp_path / "a.dcm",
        framed,
        Modality="MG",  # which all policies take
        PhotometricInterpretation="MONOCHROME1",
        PixelPaddingValue=4000,
        PixelPaddingRangeLimit=3990,
    )
    bare = write_dicom(
        tmp_path / "b.dcm", framed[10:90, 10:90].copy(), Modality="MG", PhotometricInterpretation="MONOCHROME1"
    )
    for policy in POLICIES:
        pixels = read_image(path, policy).pixels
        # One policy leaves out a border, of the padding here and of the picture there.
        shown = slice(15, 85) if policy == MAMMO_CLIP else slice(10, 90)
        alone = np.pad(read_image(bare, policy).pixels, 10)
        np.testing.assert_allclose(pixels[shown, shown], alone[shown, shown], atol=0.06 * (policy == MAMMO_CLIP))
        assert pixels[:10].max() == 0
        assert pixels.max() == 1


def test_range_policy_looks_at_no_window(tmp_path: Path):
    path = write_dicom(tmp_path / "a.dcm", RAMP[:, :] // 2 + 100, WindowCenter=10, WindowWidth=2)
    image = read_image(path, "range-1")
    low, high = 100, RAMP.max() // 2 + 100
    np.testing.assert_allclose(image.pixels, (RAMP // 2 + 100.0 - low) / (high - low), atol=1e-6)
    assert image.policy_id == "range-1"


def test_eight_bit_dicom_and_png_of_one_image_agree(tmp_path: Path):
    values = (RAMP % 200 + 20).astype(np.uint8)
    Image.fromarray(values).save(tmp_path / "a.png")
    dicom, png = read_image(write_dicom(tmp_path / "a.dcm", values, bits=8)), read_image(tmp_path / "a.png")
    np.testing.assert_array_equal(dicom.pixels, png.pixels)
    assert (png.spacing_mm, png.source_bits, png.photometric) == (None, 8, "L")


def test_bits_above_the_stored_ones_are_not_image(tmp_path: Path):
    with_overlay = RAMP | (np.uint16(1) << 15) * (RAMP % 2)
    left = read_image(write_dicom(tmp_path / "a.dcm", with_overlay)).pixels
    np.testing.assert_array_equal(left, read_image(write_dicom(tmp_path / "b.dcm", RAMP)).pixels)


def test_colour_dicom_becomes_luminance(tmp_path: Path):
    rgb = np.random.default_rng(0).integers(0, 256, (64, 80, 3), dtype=np.uint8)
    path = write_dicom(
        tmp_path / "a.dcm",
        rgb,
        bits=8,
        SamplesPerPixel=3,
        PhotometricInterpretation="RGB",
        PlanarConfiguration=0,
        Rows=64,
        Columns=80,
    )
    np.testing.assert_allclose(read_image(path).pixels, np.asarray(Image.fromarray(rgb).convert("L")) / 255, atol=1e-6)


def test_refused_dicoms_say_why(tmp_path: Path):
    def reason(name: str, values: np.ndarray = RAMP, **attributes) -> str:
        return reason_of(write_dicom(tmp_path / name, values, **attributes))

    assert "burned into the pixels" in reason("burned.dcm", BurnedInAnnotation="YES")
    assert read_image(tmp_path / "burned.dcm", allow_burned_in=True).source_bits == 12
    assert "FOR PROCESSING" in reason("raw.dcm", PresentationIntentType="FOR PROCESSING")
    assert "modality MR; expected one of CR, DX, RG, MG" in reason("mr.dcm", Modality="MR")
    assert "modality is blank" in reason("blank.dcm", Modality="")
    assert read_image(tmp_path / "blank.dcm", modalities=("CR", "")).source_bits == 12
    assert "34 frames" in reason("volume.dcm", np.stack([RAMP] * 34), NumberOfFrames=34)
    assert "80 x 40 pixels; expected at least 64" in reason("small.dcm", RAMP[:40])
    assert "65535 x 65535, more than" in reason("huge.dcm", Rows=65535, Columns=65535)
    assert "blank" in reason("constant.dcm", np.full_like(RAMP, 7))
    assert "blank" in reason("window.dcm", WindowCenter=30000, WindowWidth=2)
    assert "cut off" in reason("headless.dcm", PixelData=None)
    content = write_dicom(tmp_path / "short.dcm", RAMP).read_bytes()
    (tmp_path / "short.dcm").write_bytes(content[:-1000])
    assert "cut-off pixels" in reason_of(tmp_path / "short.dcm")
    for length in (200, 400, 600):
        (tmp_path / "short.dcm").write_bytes(content[:length])
        assert "cut off" in reason_of(tmp_path / "short.dcm").replace("-", " ")
    assert "does not exist" in reason_of(tmp_path / "nowhere.dcm")


def test_header_lets_only_listed_facts_through(tmp_path: Path):
    view = Dataset()
    view.CodeValue, view.CodingSchemeDesignator, view.CodeMeaning = "R-10214", "SRT", "postero-anterior"
    path = write_dicom(
        tmp_path / "a.dcm",
        RAMP,
        PatientAge="006M",
        PatientSex="O",
        StudyDate="20200131",
        ImagerPixelSpacing=[0.15, 0.14],
        Laterality="B",
        ViewCodeSequence=[view],
        SeriesDescription="SECRET chest LAT",
        WindowCenter=5,
    )
    header = read_dicom_header(path)
    assert header["view_position"] == "PA"  # the coded view goes before any description
    assert header["view_kind"] == "frontal"
    assert header["laterality"] == "both"
    assert (header["age_years"], header["sex"], header["study_date"]) == (0.5, None, "20200131")
    assert (header["patient_id"], header["spacing_mm"]) == ("ID-7", (0.15, 0.14))
    assert "SECRET" not in str(header)


def test_unreadable_attributes_count_as_absent(tmp_path: Path):
    path = write_dicom(tmp_path / "a.dcm", RAMP, WindowCenter=1234, WindowWidth=500, PatientAge="045Y")
    content = path.read_bytes().replace(b"1234", b"1x34").replace(b"045Y", b"??Y ")
    path.write_bytes(content)
    np.testing.assert_array_equal(read_image(path).pixels, read_image(write_dicom(tmp_path / "b.dcm", RAMP)).pixels)
    assert read_dicom_header(path)["age_years"] is None


@pytest.mark.parametrize(
    ("age", "years"),
    [
        ("045Y", 45),
        ("006M", 0.5),
        ("052W", 364 / 365.25),
        ("003D", 3 / 365.25),
        ("68", 68),
        ("000Y", 0),
        *((nonsense, None) for nonsense in ("", "45 years", "999Y", "Y")),
    ],
)
def test_ages(age: str, years: float | None):
    assert parse_age(age) == pytest.approx(years)
