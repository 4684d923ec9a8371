"""Every file becomes the right grey image, or is set aside with a reason: real files and pictures (DICOM's own rules
are in test_dicom.py)."""

from __future__ import annotations

import csv
import functools
import io
import pickle
from pathlib import Path

import numpy as np
import pytest
from dicom_files import RAMP, reason_of, write_dicom
from PIL import Image
from pydicom.encaps import encapsulate, generate_frames
from pydicom.filereader import dcmread
from pydicom.pixels.processing import apply_modality_lut

from hilum.errors import UserError
from hilum.imaging.quality import describe_quality
from hilum.imaging.read import GreyImage, RejectedImage, read_image
from hilum.imaging.view import read_dicom_header

# --- real files


@pytest.fixture(scope="module")
def read_real(real_data: Path):
    """Each real DICOM decoded once, of whatever modality."""

    @functools.cache
    def read(name: str) -> GreyImage:
        return read_image(real_data / "dicom" / name, modalities=("CR", "DX", "RG", "MG", "CT", "OT"))

    return read


@pytest.mark.needs_real_data
def test_every_real_dicom_is_read_or_set_aside_with_its_reason(real_data: Path, read_real):
    folder = real_data / "dicom"
    reasons = {
        "BROKEN_chest_DX_mono1_j2k.dcm": "the JPEG 2000 Image Compression (Lossless Only) stream does not decode",
        "dbt_CC_j2k_3d.dcm": "4 frames; volumes and cine loops are not built yet",
        "ecg12_waveform.dcm": "holds no image (modality ECG",
    }
    with (folder / "manifest.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 18
    for row in rows:
        path = folder / row["path"]
        header = read_dicom_header(path)
        assert header["modality"] == row["modality"]
        assert header["photometric"] == row["photometric"]
        assert header["laterality"] == {"R": "right", "L": "left", "": "unknown"}[row["laterality"]]
        assert header["view_position"] == row["view"]
        kinds = {"PA": "frontal", "AP": "frontal", "CC": "cc", "MLO": "mlo", "": "unknown"}
        assert header["view_kind"] == kinds[row["view"]]
        assert (header["body_part"], header["num_frames"]) == (row["body_part"], int(row["frames"] or 1))
        if row["path"] in reasons:
            assert reasons[row["path"]] in reason_of(path)
            continue
        if row["modality"] in ("CT", "OT"):
            assert f"modality {row['modality']}; expected one of CR, DX, RG, MG" in reason_of(path)
        image = read_real(row["path"])
        assert image.pixels.shape == image.source_size == (int(row["rows"]), int(row["cols"]))
        assert (image.source_bits, image.photometric) == (int(row["bits_stored"]), row["photometric"])
        assert image.pixels.min() >= 0
        assert image.pixels.max() <= 1
        assert image.policy_id == "voi-1"
        assert header["spacing_mm"] == image.spacing_mm


@pytest.mark.needs_real_data
def test_real_chests_have_dark_lungs_and_bright_abdomen(read_real):
    for name in ("RG1_J2KI.dcm", "chest_DX_mono1_j2k_12bit.dcm", "rsna_PA_6904.dcm", "rsna_AP_c64d5667.dcm"):
        pixels = read_real(name).pixels
        height, width = pixels.shape
        lung = pixels[int(0.3 * height) : int(0.5 * height), int(0.22 * width) : int(0.32 * width)].mean()
        abdomen = pixels[int(0.85 * height) : int(0.95 * height), int(0.4 * width) : int(0.6 * width)].mean()
        assert lung < abdomen - 0.15, name


@pytest.mark.needs_real_data
def test_one_image_in_three_compressions_is_one_image(read_real):
    first, *others = (read_real(f"RG2_hip_{kind}.dcm").pixels for kind in ("RLE", "JPLL", "JLSL"))
    for other in others:
        np.testing.assert_array_equal(first, other)
    np.testing.assert_array_equal(*(read_real(f"RG3_mono1_{kind}.dcm").pixels for kind in ("RLE", "JLSL")))
    wavelet, near_lossless = (read_real(f"RG1_{kind}.dcm").pixels for kind in ("J2KI", "JLSN"))
    assert np.abs(wavelet - near_lossless).mean() < 0.01


@pytest.mark.needs_real_data
def test_a_header_that_lies_about_inversion_is_taken_at_its_word(read_real):
    """The same pixels under both tags: the standard leaves a reader no way to know which is wrong."""
    true, false = (read_real(f"rsna_{name}.dcm").pixels for name in ("PA_6904", "FakeMono1"))
    np.testing.assert_allclose(false, 1 - true, atol=1e-6)


@pytest.mark.needs_real_data
def test_first_of_several_windows_is_the_one_used(real_data: Path, read_real):
    hounsfield = dcmread(real_data / "dicom" / "ct_multiwindow.dcm").pixel_array.astype(np.float64) - 1024
    expected = np.clip((hounsfield - 39.5) / 399 + 0.5, 0, 1)
    np.testing.assert_allclose(read_real("ct_multiwindow.dcm").pixels, expected, atol=1e-6)


@pytest.mark.needs_real_data
def test_real_modality_table(real_data: Path, read_real):
    dataset = dcmread(real_data / "dicom" / "modality_lut_sequence.dcm")
    output = apply_modality_lut(dataset.pixel_array, dataset).astype(np.float64)
    low, high = np.percentile(output, [0.5, 99.5], method="nearest")
    expected = np.clip((output - low) / (high - low), 0, 1)
    np.testing.assert_allclose(read_real("modality_lut_sequence.dcm").pixels, expected, atol=1e-3)


@pytest.mark.needs_real_data
@pytest.mark.parametrize("folder", ["cxr_multiview/images", "nih/images", "hannover_cxr_labs/images"])
def test_real_pictures_keep_their_grey_values(real_data: Path, folder: str):
    paths = sorted(path for path in (real_data / folder).iterdir() if path.suffix != ".csv")[:20]
    assert paths
    for path in paths:
        image = read_image(path)
        np.testing.assert_array_equal(np.rint(image.pixels * 255).astype(np.uint8), np.asarray(Image.open(path)))


@pytest.mark.needs_real_data
@pytest.mark.parametrize(
    "name", ["RG1_J2KI.dcm", "RG3_mono1_JLSL.dcm", "RG2_hip_JPLL.dcm", "rsna_PA_6904.dcm", "RG3_mono1_RLE.dcm"]
)
def test_cut_off_streams_are_set_aside(real_data: Path, tmp_path: Path, name: str):
    dataset = dcmread(real_data / "dicom" / name)
    frame = next(generate_frames(dataset.PixelData, number_of_frames=1))
    dataset.PixelData = encapsulate([frame[: len(frame) // 4 * 2]])
    dataset.save_as(tmp_path / name)
    assert "damaged or cut-off pixels" in reason_of(tmp_path / name)
    whole = (real_data / "dicom" / name).read_bytes()
    (tmp_path / name).write_bytes(whole[: len(whole) // 2])
    assert "cut off" in reason_of(tmp_path / name)


@pytest.mark.soak
@pytest.mark.needs_real_data
def test_damaged_files_never_raise_anything_else(real_data: Path, tmp_path: Path):
    """Random bytes overwritten anywhere: an image or a reason, nothing else."""
    draw = np.random.default_rng(0)
    paths = [path for path in sorted((real_data / "dicom").glob("*.dcm")) if path.stat().st_size < 3_000_000]
    paths += sorted((real_data / "cxr_multiview/images").iterdir())[:3]
    for path in paths:
        for _ in range(20):
            content = bytearray(path.read_bytes())
            reach = len(content) if draw.random() < 0.5 else 3000
            for place in draw.integers(0, reach, 20):
                content[place] = draw.integers(256)
            (tmp_path / path.name).write_bytes(content)
            try:
                assert isinstance(read_image(tmp_path / path.name, modalities=("CR", "RG", "CT", "OT")), GreyImage)
            except RejectedImage:
                continue


# --- pictures


def save_picture(path: Path, image: Image.Image, **options) -> np.ndarray:
    image.save(path, **options)
    return read_image(path).pixels


def test_sixteen_bits(tmp_path: Path):
    detector = RAMP  # up to 4095: black and white are where the image has them
    stretched = (RAMP.astype(np.uint32) * 65535 // 5000).astype(np.uint16)  # beyond 32767: 65535 is white
    for suffix in ("png", "tif"):
        pixels = save_picture(tmp_path / f"a.{suffix}", Image.fromarray(stretched))
        np.testing.assert_allclose(pixels, stretched / 65535, atol=1e-6)
        pixels = save_picture(tmp_path / f"b.{suffix}", Image.fromarray(detector))
        np.testing.assert_array_equal(pixels, read_image(write_dicom(tmp_path / "b.dcm", detector)).pixels)
        assert read_image(tmp_path / f"b.{suffix}").source_bits == 16
    wide = Image.fromarray(stretched.astype(np.int32))
    assert wide.mode == "I"
    np.testing.assert_allclose(save_picture(tmp_path / "c.tif", wide), stretched / 65535, atol=1e-6)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_white_is_zero_tiff(tmp_path: Path, dtype):
    values = (np.arange(64 * 80).reshape(64, 80) * 13).astype(dtype)
    Image.fromarray(values).save(tmp_path / "a.tif")
    content = (tmp_path / "a.tif").read_bytes()
    tag = b"\x06\x01\x03\x00\x01\x00\x00\x00"  # PhotometricInterpretation, one SHORT
    assert content.count(tag + b"\x01\x00") == 1
    (tmp_path / "a.tif").write_bytes(content.replace(tag + b"\x01\x00", tag + b"\x00\x00"))
    np.testing.assert_allclose(read_image(tmp_path / "a.tif").pixels, 1 - values / np.iinfo(dtype).max, atol=1e-6)


def test_float_tiff_with_holes(tmp_path: Path):
    values = np.arange(6400, dtype=np.float32).reshape(80, 80) - 3000
    values[:5] = np.nan
    pixels = save_picture(tmp_path / "a.tif", Image.fromarray(values))
    assert pixels[:5].max() == 0
    assert pixels[5:].max() == 1
    assert np.all(np.diff(pixels[5:].ravel()) >= 0)


def test_colour_palette_transparency_and_one_bit_become_grey(tmp_path: Path):
    grey = (RAMP % 256).astype(np.uint8)
    image = Image.fromarray(grey)
    np.testing.assert_array_equal(save_picture(tmp_path / "rgb.png", image.convert("RGB")), grey / np.float32(255))
    np.testing.assert_array_equal(save_picture(tmp_path / "p.png", image.convert("P")), grey / np.float32(255))
    np.testing.assert_array_equal(save_picture(tmp_path / "p.gif", image), grey / np.float32(255))

    colour = Image.merge("RGB", [image, image.transpose(Image.Transpose.FLIP_LEFT_RIGHT), image])
    expected = np.asarray(colour, dtype=np.float64) @ [0.299, 0.587, 0.114] / 255
    np.testing.assert_allclose(save_picture(tmp_path / "colour.png", colour), expected, atol=1 / 255)

    hole = np.full_like(grey, 255)
    hole[:20] = 0
    for mode, name in (("RGBA", "rgba.png"), ("LA", "la.png")):
        see_through = image.convert(mode)
        see_through.putalpha(Image.fromarray(hole))
        expected = np.where(hole, grey, 0) / np.float32(255)
        np.testing.assert_array_equal(save_picture(tmp_path / name, see_through), expected)

    bits = Image.fromarray(grey > 128)
    assert bits.mode == "1"
    np.testing.assert_array_equal(save_picture(tmp_path / "one.png", bits), (grey > 128).astype(np.float32))
    assert read_image(tmp_path / "one.png").source_bits == 1

    smooth = Image.fromarray(np.linspace(0, 255, 6400).reshape(80, 80).astype(np.uint8))
    cmyk = save_picture(tmp_path / "cmyk.jpg", smooth.convert("RGB").convert("CMYK"), quality=100)
    np.testing.assert_allclose(cmyk, np.asarray(smooth) / 255, atol=4 / 255)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(tmp_path: Path, orientation: int):
    """Row 0 and column 0 of the stored picture lie where EXIF says: an asymmetric image comes out upright."""
    upright = np.zeros((64, 96), dtype=np.uint8)
    upright[:32, :16], upright[:16, 48:] = 255, 120  # bright top left, grey strip top right
    undo = {
        1: lambda a: a,
        2: np.fliplr,
        3: lambda a: np.rot90(a, 2),
        4: np.flipud,
        5: np.transpose,
        6: lambda a: np.rot90(a, 1),
        7: lambda a: np.rot90(a, 2).T,
        8: lambda a: np.rot90(a, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = Image.fromarray(np.ascontiguousarray(undo(upright)))
    pixels = save_picture(tmp_path / "a.jpg", stored, exif=exif, quality=100)
    assert read_image(tmp_path / "a.jpg").source_size == (64, 96)
    np.testing.assert_allclose(pixels, upright / 255, atol=0.05)


def test_refused_pictures_say_why(tmp_path: Path):
    def reason(name: str, content: bytes) -> str:
        (tmp_path / name).write_bytes(content)
        return reason_of(tmp_path / name)

    assert "not an image: a text file" in reason("notes.png", b"SECRET patient, aged 44\n" * 20)
    assert "not an image: the file is empty" in reason("empty.png", b"")
    assert "a web page" in reason("login.jpg", b"<!DOCTYPE html><html>Sign in</html>")
    assert "a PDF" in reason("report.jpg", b"%PDF-1.7 ...")
    assert "a compressed archive" in reason("zip.png", b"PK\x03\x04" + bytes(100))
    assert "neither DICOM nor PNG" in reason("noise.dcm", bytes(range(256)) * 9)
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (128, 128), dtype=np.uint8))
    for kind in ("png", "jpeg", "tiff"):
        picture = io.BytesIO()
        noise.save(picture, kind)
        assert "cut-off" in reason(f"cut.{kind}", picture.getvalue()[: len(picture.getvalue()) // 2])
    assert "is a directory" in reason_of(tmp_path).lower()
    pages = [Image.fromarray((RAMP % k).astype(np.uint8)) for k in (200, 210, 220)]
    pages[0].save(tmp_path / "pages.tif", save_all=True, append_images=pages[1:])
    assert "3 frames" in reason_of(tmp_path / "pages.tif")
    Image.new("1", (10_000, 9_000)).save(tmp_path / "poster.png")
    assert "pixels; expected a radiograph" in reason_of(tmp_path / "poster.png")
    Image.new("1", (9_000, 9_000)).save(tmp_path / "print.png")
    assert "9000 x 9000, more than" in reason_of(tmp_path / "print.png")
    Image.new("L", (100, 100), 30).save(tmp_path / "constant.png")
    assert "blank" in reason_of(tmp_path / "constant.png")


def test_an_empty_exposure_with_a_letter_is_blank():
    pixels = np.full((300, 300), 0.5, dtype=np.float32)
    pixels[5:20, 5:20] = 1
    assert describe_quality(pixels) == {"is_blank": True}
    pixels[100:140] = 0.6
    assert describe_quality(pixels) == {"is_blank": False}


def test_an_unknown_policy_is_named(tmp_path: Path):
    with pytest.raises(UserError, match="'voi-9' is unknown; expected one of voi-1, range-1"):
        read_image(write_dicom(tmp_path / "a.dcm", RAMP), "voi-9")


def test_a_reason_survives_the_way_back_from_a_worker():
    error = pickle.loads(pickle.dumps(RejectedImage("a.dcm", "blank")))
    assert (error.file, error.reason, str(error)) == ("a.dcm", "blank", "a.dcm: blank")
