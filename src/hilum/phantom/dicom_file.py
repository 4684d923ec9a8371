"""One view of the phantom as a DICOM file: a CR or DX image with the attributes a real archive has.

Attributes follow PS3.3 A.2 (Computed Radiography) and A.26 (Digital X-Ray, for presentation). Names, dates and
hospitals are made up; unique identifiers come from the study's key, so that the same view is the same bytes wherever
it is written.
"""

from __future__ import annotations

import datetime
import hashlib
import io
from dataclasses import dataclass

import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import (
    UID,
    ComputedRadiographyImageStorage,
    DigitalXRayImageStorageForPresentation,
    ExplicitVRLittleEndian,
)

from hilum.phantom.clinic import INSTITUTIONS
from hilum.phantom.detector import Acquisition, frame_view
from hilum.phantom.dice import Dice, make_key
from hilum.phantom.plan import Projection, StudyPlan

UNNAMED_SHARE = 0.02  # of the studies name none of their views, as in real archives
FIRST_DAY = datetime.date(2012, 1, 1)  # first studies are spread over FIRST_DAYS from here
FIRST_DAYS = 2500
IMPLEMENTATION = UID("2.25.80302813137786398554742050926734630921")  # a fixed UUID: Hilum's writer


@dataclass(frozen=True)
class Scanner:
    """The machine of an institution, as its files name it."""

    modality: str  # CR or DX
    manufacturer: str
    model: str
    lateral: str  # how this place writes the lateral's ViewPosition


SCANNERS = {
    "northfield": Scanner("CR", "Fictive Imaging", "PlateReader 300", "LL"),
    "harbour": Scanner("DX", "Sample Medical Systems", "FlatView 2", "LATERAL"),
    "stanne": Scanner("DX", "Imaginary Healthcare", "DR-Mobile X", "LL"),
}
# PS3.16 context group 4010, DX View (SNOMED CT).
VIEW_CODES = {
    "PA": ("272479007", "postero-anterior"),
    "AP": ("399348003", "antero-posterior"),
    "LATERAL": ("399173006", "left lateral"),
}
# Where a row of the image goes to and where a column goes to: Left, Anterior, Feet (PS3.3 C.7.6.1.1.1).
ORIENTATIONS = {"PA": ["L", "F"], "AP": ["L", "F"], "LATERAL": ["A", "F"]}
OPPOSITE = {"L": "R", "A": "P"}


def make_uid(*parts: str | int) -> str:
    """A UUID-derived UID (PS3.5 B.2), always the same for the same parts."""
    digest = hashlib.blake2b("/".join(map(str, parts)).encode(), digest_size=16).digest()
    number = int.from_bytes(digest, "big")
    number = number & ~(0xF << 76) | (0x8 << 76)  # version 8: made by the application
    number = number & ~(0x3 << 62) | (0x2 << 62)
    return f"2.25.{number}"


def name_position(plan: StudyPlan, projection: Projection) -> str:
    """ViewPosition as the file and the tables say it; empty in the studies whose views nobody named."""
    if Dice("phantom unnamed", plan.key).happens(UNNAMED_SHARE):
        return ""
    return SCANNERS[plan.institution].lateral if projection == "LATERAL" else projection


def find_age(plan: StudyPlan) -> float:
    """Age on the day of the study, in years."""
    return plan.person.age + plan.day / 365.25


def _code(value: str, scheme: str, meaning: str) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, meaning
    return item


def encode_view(plan: StudyPlan, view: int, acquisition: Acquisition) -> bytes:
    """The DICOM file of view number `view` of a study, complete with preamble and file meta information."""
    projection = plan.projections[view]
    scanner = SCANNERS[plan.institution]
    position = name_position(plan, projection)
    first = FIRST_DAY + datetime.timedelta(days=make_key("phantom date", plan.person.key) % FIRST_DAYS)
    date = (first + datetime.timedelta(days=plan.day)).strftime("%Y%m%d")
    start = make_key("phantom time", plan.key) % 36_000 + 7 * 3600
    time, view_time = (f"{t // 3600:02d}{t // 60 % 60:02d}{t % 60:02d}" for t in (start, start + 120 * view))
    pixels = acquisition.pixels

    file = Dataset()
    file.SpecificCharacterSet = "ISO_IR 192"
    is_dx = scanner.modality == "DX"
    file.SOPClassUID = DigitalXRayImageStorageForPresentation if is_dx else ComputedRadiographyImageStorage
    file.SOPInstanceUID = make_uid("instance", plan.key, view)
    file.StudyInstanceUID = make_uid("study", plan.key)
    file.SeriesInstanceUID = make_uid("series", plan.key, view)
    file.ImageType = ["ORIGINAL", "PRIMARY", ""] if is_dx else ["ORIGINAL", "PRIMARY"]
    file.StudyDate = file.SeriesDate = file.AcquisitionDate = file.ContentDate = date
    file.StudyTime = time
    file.SeriesTime = file.AcquisitionTime = file.ContentTime = view_time
    file.AccessionNumber = ""
    file.Modality = scanner.modality
    file.Manufacturer = scanner.manufacturer
    file.ManufacturerModelName = scanner.model
    file.InstitutionName = INSTITUTIONS[plan.institution].name
    file.ReferringPhysicianName = ""
    file.StudyDescription = "Chest radiograph"
    file.PatientName = f"Phantom^{plan.patient}"
    file.PatientID = plan.patient
    file.PatientBirthDate = ""
    file.PatientSex = plan.person.sex
    file.PatientAge = f"{int(find_age(plan)):03d}Y"
    file.BodyPartExamined = "CHEST"
    file.ViewPosition = position
    file.StudyID = plan.study[-8:]
    file.SeriesNumber = view + 1
    file.InstanceNumber = 1
    row, column = ORIENTATIONS[projection]
    if frame_view(plan.institution, projection, plan.key, max(pixels.shape)).mirrored:
        row = OPPOSITE[row]
    file.PatientOrientation = [row, column] if position else ""
    file.BurnedInAnnotation = "NO"
    file.LossyImageCompression = "00"
    if is_dx:
        file.PresentationIntentType = "FOR PRESENTATION"
        file.ImageLaterality = "U"
        file.AnatomicRegionSequence = Sequence([_code("51185008", "SCT", "Chest")])
        if position:
            code, meaning = VIEW_CODES[projection]
            file.ViewCodeSequence = Sequence([_code(code, "SCT", meaning)])
        file.PixelIntensityRelationship = "LOG"
        # 1: less X-ray gives lower stored values (PS3.3 C.8.11.3.1.2); MONOCHROME1 shows low values white, so as here.
        file.PixelIntensityRelationshipSign = 1 if acquisition.photometric == "MONOCHROME1" else -1
        file.PresentationLUTShape = "INVERSE" if acquisition.photometric == "MONOCHROME1" else "IDENTITY"
        file.DetectorType = "SCINTILLATOR"
        file.AcquisitionContextSequence = Sequence([])
        file.RescaleIntercept, file.RescaleSlope, file.RescaleType = "0", "1", "US"

    file.KVP = f"{acquisition.kilovolts:.1f}"
    file.ExposureInuAs = round(acquisition.exposure_microampere_seconds)

    file.SamplesPerPixel = 1
    file.PhotometricInterpretation = acquisition.photometric
    file.Rows, file.Columns = pixels.shape
    file.BitsAllocated, file.BitsStored, file.HighBit, file.PixelRepresentation = 16, 12, 11, 0
    spacing = f"{acquisition.pixel_spacing_mm:.4f}"
    file.ImagerPixelSpacing = [spacing, spacing]
    file.PixelSpacing = [spacing, spacing]
    file.WindowCenter = f"{acquisition.window_center:.1f}"
    file.WindowWidth = f"{acquisition.window_width:.1f}"
    file.PixelData = pixels.astype("<u2").tobytes()

    file.file_meta = FileMetaDataset()
    file.file_meta.MediaStorageSOPClassUID = file.SOPClassUID
    file.file_meta.MediaStorageSOPInstanceUID = file.SOPInstanceUID
    file.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    file.file_meta.ImplementationClassUID = IMPLEMENTATION
    file.file_meta.ImplementationVersionName = "HILUM"
    stream = io.BytesIO()
    pydicom.dcmwrite(stream, file, enforce_file_format=True)
    return stream.getvalue()
