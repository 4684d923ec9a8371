"""Small DICOM files with any attributes, and the reason why a file is set aside."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian, generate_uid

from hilum.imaging.read import RejectedImage, read_image

RAMP = np.arange(64 * 80, dtype=np.uint16).reshape(64, 80) % 4096


def write_dicom(path: Path, values: np.ndarray, *, bits: int = 12, **attributes) -> Path:
    """A DX file of `values`; attributes by keyword, None removes."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = DigitalXRayImageStorageForPresentation
    meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=[path.name])
    dataset = FileDataset(path, {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.SOPClassUID, dataset.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    dataset.Modality, dataset.PatientName, dataset.PatientID = "DX", "SECRET^NAME", "ID-7"
    dataset.PhotometricInterpretation, dataset.SamplesPerPixel = "MONOCHROME2", 1
    dataset.Rows, dataset.Columns = values.shape[-2:]
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 8 * values.dtype.itemsize, bits, bits - 1
    dataset.PixelRepresentation = int(np.issubdtype(values.dtype, np.signedinteger))
    dataset.PixelData = values.tobytes()
    for keyword, value in attributes.items():
        if value is None:
            delattr(dataset, keyword)
        else:
            setattr(dataset, keyword, value)
    dataset.save_as(path)
    return path


def reason_of(path: Path, **options) -> str:
    with pytest.raises(RejectedImage) as caught:
        read_image(path, **options)
    assert caught.value.file == path.name
    assert str(caught.value) == f"{path.name}: {caught.value.reason}"
    assert "SECRET" not in str(caught.value)
    return caught.value.reason
