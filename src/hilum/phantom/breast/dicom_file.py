"""One exposure as a DICOM file: Digital Mammography X-Ray Image, for presentation (PS3.3 A.27, C.8.11.7).

Names, dates and hospitals are made up; unique identifiers come from the exam's key, so that the same exposure is the
same bytes wherever it is written.
"""

from __future__ import annotations

import datetime
import io

import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import DigitalMammographyXRayImageStorageForPresentation, ExplicitVRLittleEndian

from hilum.phantom.breast.detector import DETECTORS, Acquisition
from hilum.phantom.breast.plan import LATERALITIES, PROJECTIONS, ExamPlan, ViewPlan
from hilum.phantom.breast.stored import Form, Stored, store
from hilum.phantom.dice import Dice, make_key
from hilum.phantom.dicom_file import FIRST_DAY, FIRST_DAYS, IMPLEMENTATION, make_uid

# PS3.16 context group 4014, View for Mammography (SNOMED CT).
VIEW_CODES = {"CC": ("399162004", "cranio-caudal"), "MLO": ("399368009", "medio-lateral oblique")}


def choose_form(exam: ExamPlan) -> Form:
    """How the exam's machine stores images."""
    return Dice("breast form", exam.key).choose_weighted(DETECTORS[exam.institution].forms)


def choose_machine(exam: ExamPlan) -> tuple[int, str]:
    """RSNA's machine_id and the model's name: a machine has one form."""
    detector = DETECTORS[exam.institution]
    number = list(detector.forms).index(choose_form(exam))
    return 20 + 10 * detector.site + number, detector.models[number % len(detector.models)]


def encode_view(exam: ExamPlan, view: ViewPlan, acquisition: Acquisition, form: Form | None = None) -> bytes:
    """The complete file; `form` replaces the exam's own (the same image, stored otherwise)."""
    stored = store(acquisition.grey, form or choose_form(exam))
    detector = DETECTORS[exam.institution]
    side, number = LATERALITIES.index(view.laterality), PROJECTIONS.index(view.projection)
    place = (exam.key, side, number, view.repeat)
    first = FIRST_DAY + datetime.timedelta(days=make_key("breast date", exam.woman.key) % FIRST_DAYS)
    date = (first + datetime.timedelta(days=exam.day)).strftime("%Y%m%d")
    seconds = make_key("breast time", exam.key) % 36_000 + 7 * 3600
    start, taken = (
        f"{t // 3600:02d}{t // 60 % 60:02d}{t % 60:02d}" for t in (seconds, seconds + 60 * (2 * side + number))
    )

    file = Dataset()
    file.SpecificCharacterSet = "ISO_IR 192"
    file.ImageType = ["ORIGINAL", "PRIMARY", ""]
    file.SOPClassUID = DigitalMammographyXRayImageStorageForPresentation
    file.SOPInstanceUID = make_uid("breast instance", *place)
    file.StudyInstanceUID = make_uid("breast study", exam.key)
    file.SeriesInstanceUID = make_uid("breast series", *place)
    file.StudyDate = file.SeriesDate = file.AcquisitionDate = file.ContentDate = date
    file.StudyTime, file.SeriesTime, file.AcquisitionTime, file.ContentTime = start, taken, taken, taken
    file.AccessionNumber = ""
    file.Modality = "MG"
    file.Manufacturer = detector.manufacturer
    file.ManufacturerModelName = choose_machine(exam)[1]
    file.InstitutionName = detector.name
    file.ReferringPhysicianName = ""
    file.StudyDescription = "Screening mammography"
    file.SeriesDescription = f"{view.laterality} {view.projection}"
    file.PatientName = f"Phantom^{exam.patient}"
    file.PatientID = exam.patient
    file.PatientBirthDate = ""
    file.PatientSex = "F"
    file.PatientAge = f"{int(exam.age):03d}Y"
    file.BodyPartExamined = "BREAST"
    file.StudyID, file.SeriesNumber, file.InstanceNumber = exam.exam[-8:], 2 * side + number + 1, 1
    file.PresentationIntentType = "FOR PRESENTATION"
    file.ImageLaterality = view.laterality
    file.ViewPosition = view.projection
    file.ViewCodeSequence = Sequence([_code(*VIEW_CODES[view.projection])])
    file.ViewCodeSequence[0].ViewModifierCodeSequence = Sequence([])
    file.AnatomicRegionSequence = Sequence([_code("76752008", "Breast")])
    file.AcquisitionContextSequence = Sequence([])
    file.PatientOrientation = _orient(view, acquisition)
    file.FieldOfViewHorizontalFlip = "YES" if acquisition.mirrored else "NO"
    file.BreastImplantPresent = "YES" if exam.woman.implant else "NO"
    file.PartialView = "NO"
    file.OrganExposed = "BREAST"
    file.PositionerType = "MAMMOGRAPHIC"
    if view.projection == "MLO":
        file.PositionerPrimaryAngle = "45"
    file.BodyPartThickness = f"{acquisition.thickness_mm:.0f}"
    file.CompressionForce = f"{acquisition.force_newtons:.0f}"
    file.KVP = f"{acquisition.kilovolts:.1f}"
    file.AnodeTargetMaterial = "TUNGSTEN"
    file.DetectorType = "SCINTILLATOR"
    file.BurnedInAnnotation = "NO"  # letters of side and view are no identifying annotation
    file.LossyImageCompression = "00"
    file.PixelIntensityRelationship = "LOG"
    file.PixelIntensityRelationshipSign = 1 if stored.photometric == "MONOCHROME1" else -1
    file.PresentationLUTShape = "INVERSE" if stored.photometric == "MONOCHROME1" else "IDENTITY"
    file.RescaleIntercept, file.RescaleSlope, file.RescaleType = "0", "1", "US"
    _add_pixels(file, stored, acquisition.pixel_mm)

    file.file_meta = FileMetaDataset()
    file.file_meta.MediaStorageSOPClassUID = file.SOPClassUID
    file.file_meta.MediaStorageSOPInstanceUID = file.SOPInstanceUID
    file.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    file.file_meta.ImplementationClassUID = IMPLEMENTATION
    file.file_meta.ImplementationVersionName = "HILUM"
    stream = io.BytesIO()
    pydicom.dcmwrite(stream, file, enforce_file_format=True)
    return stream.getvalue()


def _code(value: str, meaning: str) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, "SCT", meaning
    return item


def _orient(view: ViewPlan, acquisition: Acquisition) -> list[str]:
    """Where a row and a column of the image lead (PS3.3 C.7.6.1.1.1); outside is up in CC, the head is in MLO."""
    row = "P" if acquisition.flipped else "A"
    if view.projection == "MLO":
        return [row, "F"]
    return [row, "R" if view.laterality == "L" else "L"]


def _add_pixels(file: Dataset, stored: Stored, pixel_mm: float) -> None:
    file.SamplesPerPixel = 1
    file.PhotometricInterpretation = stored.photometric
    file.Rows, file.Columns = stored.pixels.shape
    file.BitsAllocated, file.BitsStored, file.HighBit, file.PixelRepresentation = 16, 12, 11, 0
    spacing = f"{pixel_mm:.5f}"
    file.ImagerPixelSpacing = [spacing, spacing]
    file.PixelSpacing = [spacing, spacing]
    if stored.window:
        file.WindowCenter, file.WindowWidth = (f"{each:.1f}" for each in stored.window)
        file.VOILUTFunction = stored.function
    if stored.table is not None:
        table = Dataset()
        table.LUTDescriptor = [len(stored.table), 0, 12]
        table["LUTDescriptor"].VR = "US"
        table.LUTExplanation = "NORMAL"
        table.add_new("LUTData", "OW", stored.table.astype("<u2").tobytes())
        file.VOILUTSequence = Sequence([table])
    file.PixelData = stored.pixels.astype("<u2").tobytes()
