"""PNG, JPEG, TIFF and other picture files: the pixels as stored, upright, without colour and transparency."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.TiffImagePlugin import PHOTOMETRIC_INTERPRETATION, TiffImageFile

from hilum.imaging.intensity import StoredImage, find_raster_range
from hilum.imaging.quality import MAX_PIXELS, find_size_fault
from hilum.imaging.rejection import reject, rejecting

# A closed list: Pillow would otherwise hand PostScript to an interpreter and try 40 formats on any stray file.
FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "GIF", "JPEG2000", "WEBP", "PPM")

_WHITE_IS_ZERO = 0


@dataclass(frozen=True)
class RasterImage:
    """A picture file as stored: one grey value a pixel, upright (EXIF orientation applied)."""

    stored: StoredImage  # values (height, width) in the file's own units, with the range to display
    bits: int  # of a stored pixel: 1, 8, 16 or 32
    mode: str  # Pillow's, of the file, such as "L" or "RGB"


def read_raster(path: Path) -> RasterImage:
    """One picture: EXIF orientation applied, transparency laid on black, colour to BT.601 luminance.

    8-bit, 16-bit and float grey keep their values; 16 bits for each colour channel are read as 8.
    """
    with rejecting(path, "damaged or cut-off image file: its pixels do not decode"):
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            with Image.open(path, formats=FORMATS) as image:
                # A phone's MPO is a JPEG with a preview behind it.
                num_frames = 1 if image.format == "MPO" else getattr(image, "n_frames", 1)
                if num_frames > 1:
                    raise reject(path, f"{num_frames} frames; volumes and cine loops are not built yet")
                if fault := find_size_fault(image.height, image.width):
                    raise reject(path, fault)
                image.load()
                return _describe_stored(image)
        except UnidentifiedImageError as error:
            raise reject(path, f"not an image: {describe_content(path)}") from error
        except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
            raise reject(path, f"more than {MAX_PIXELS:,} pixels; expected a radiograph") from error


def _describe_stored(image: Image.Image) -> RasterImage:
    mode, upright = image.mode, ImageOps.exif_transpose(image)
    if mode.startswith(("I", "F")):
        values = np.asarray(upright)
        values = values.astype(values.dtype.newbyteorder("="))
        # Pillow turns TIFF's white-is-zero around for 1 and 8 bits itself, and leaves it for 16.
        inverted = isinstance(image, TiffImageFile) and image.tag_v2.get(PHOTOMETRIC_INTERPRETATION) == _WHITE_IS_ZERO
        stored = StoredImage(values, inverted=inverted, display_range=find_raster_range(values))
        return RasterImage(stored, bits=_count_bits(values), mode=mode)
    values = np.asarray(_flatten(upright))
    return RasterImage(StoredImage(values, display_range=find_raster_range(values)), 1 if mode == "1" else 8, mode)


def _flatten(image: Image.Image) -> Image.Image:
    """8-bit grey: transparency on black, then luminance (in integers: grey stored as colour keeps its exact values)."""
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, (0, 0, 0, 255)), image)
    if image.mode not in ("1", "L", "RGB"):
        image = image.convert("RGB")
    return image.convert("L")


def _count_bits(values: np.ndarray) -> int:
    """Bits of a pixel in the file: Pillow widens some 16-bit files to 32."""
    if np.issubdtype(values.dtype, np.integer) and values.min() >= -(2**15) and values.max() < 2**16:
        return 16
    return 8 * values.dtype.itemsize


def describe_content(path: Path) -> str:
    """What a file that is no image looks like, without quoting a byte of it."""
    with path.open("rb") as file:
        head = file.read(4096)
    if not head:
        return "the file is empty"
    if head.startswith(b"%PDF"):
        return "a PDF document"
    if head.startswith((b"PK\x03\x04", b"\x1f\x8b")):
        return "a compressed archive"
    if head[:4].lower() == b"<htm" or head[:9].lower() == b"<!doctype":
        return "a web page (perhaps a failed download)"
    if all(byte >= 32 or byte in b"\t\n\r\f" for byte in head):
        return "a text file"
    return "neither DICOM nor PNG, JPEG, TIFF, BMP, GIF, JPEG 2000, WebP or PGM"
