"""A bundle on disk and its reader: onnxruntime, numpy and Pillow; torch is not imported.

    bundle.json            what everything is (`write_bundle.py`), with a sha256 of each other file and of itself
    model.onnx             grey images of the encoder's size, from 0 to 1, to logits, probabilities and a vector
    timm.safetensors       the encoder for plain timm, where it is one
    timm_positions.safetensors   its positions for each kind of view, where it tells them apart
    README.md              the same for people, with an example

The checksums find files that were changed or mixed up by accident; they are no signature.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool, Float32, Float64

from hilum.checksums import hash_file
from hilum.errors import UserError

from .preparation import prepare_image, to_grey

if TYPE_CHECKING:
    import onnxruntime

FORMAT = "hilum-bundle/1"
MODEL, ABOUT, README = "model.onnx", "bundle.json", "README.md"
# Of the graph. No operator of torch's is called like one of them: exporters name values by operators.
IMAGE, VIEW_KIND = "image", "view_kind"
LOGIT, PROBABILITY, EMBEDDING = "logit", "probability", "image_embedding"


@dataclass(frozen=True)
class Answer:
    """What a bundle says of images, or of studies: a row each."""

    findings: tuple[str, ...]
    logit: Float32[np.ndarray, "image finding"]
    probability: Float32[np.ndarray, "image finding"]  # sigmoid of the logit; calibrated only if bundle.json says so
    present: Bool[np.ndarray, "image finding"]  # at or above the finding's threshold; False where there is none
    has_threshold: Bool[np.ndarray, " finding"]
    embedding: Float32[np.ndarray, "image dim"]


class Bundle:
    """An opened bundle; called with images it answers.

    Attributes:
        about: bundle.json.
        findings: names, in the order of the answers' columns; none of a bundle without head.
        view_kinds: what may be said of an image's view; none where the encoder does not look at it.
    """

    def __init__(self, path: Path, about: dict[str, Any], session: onnxruntime.InferenceSession) -> None:
        self.path, self.about, self._session = path, about, session
        self.findings = tuple(finding["name"] for finding in about["findings"])
        self.view_kinds = tuple(about["view_kinds"])
        chosen = [finding["threshold"] for finding in about["findings"]]
        self._threshold = np.array([np.nan if one is None else one for one in chosen], np.float64)

    def __call__(self, images: Sequence[Any] | np.ndarray, view_kind: Sequence[str] | None = None) -> Answer:
        """Score images one by one.

        Args:
            images: Grey images (arrays, or what numpy reads as such) of any size, (rows, columns) upright, air black:
                uint8 of 0..255, uint16 of 0..65535, or floats from 0 to 1; as `intensity_policy` of bundle.json makes
                them (`read_file` does).
            view_kind: One of `view_kinds` for each image, "unknown" where nobody knows; needed where the encoder looks
                at it, refused where it does not.

        Raises:
            UserError: another type, shape or range, with what was found.
        """
        if not len(images):
            raise UserError("No image was given.")
        shown = self.about["preprocessing"]
        pixels = np.stack(
            [prepare_image(to_grey(image, f"image {place}"), shown) for place, image in enumerate(images)]
        )
        fed: dict[str, np.ndarray] = {IMAGE: pixels[:, None]}
        if (numbers := self._number_kinds(len(images), view_kind)) is not None:
            fed[VIEW_KIND] = numbers
        names = [output.name for output in self._session.get_outputs()]
        said = dict(zip(names, map(np.asarray, self._session.run(names, fed)), strict=True))
        none = np.zeros((len(images), 0), np.float32)
        return self._answer(said.get(LOGIT, none), said.get(PROBABILITY, none), said[EMBEDDING])

    def score_study(self, images: Sequence[Any] | np.ndarray, view_kind: Sequence[str] | None = None) -> Answer:
        """Score the images of one study (or breast) together, as in the evaluation: by the mean of their logits.

        Raises:
            UserError: as for images; or the head is for single images; or these are more than it was judged on.
        """
        if self.about["views"]["unit"] == "view":
            raise UserError("This head was trained and judged on single images: call the bundle with them.")
        most = self.about["views"]["at_most"]
        if most is not None and len(images) > most:
            raise UserError(
                f"Found {len(images)} images: this head was judged on {most} of a study at most. Leave some out."
            )
        each = self(images, view_kind)
        logit = each.logit.astype(np.float64).mean(axis=0, keepdims=True)
        probability = 1 / (1 + np.exp(-logit))
        return self._answer(logit.astype(np.float32), probability.astype(np.float32), each.embedding.mean(0)[None])

    def read_file(self, path: Path | str) -> Float32[np.ndarray, "height width"]:
        """The grey image of a DICOM, PNG, JPEG or TIFF file, read as `hilum cache` reads it.

        Raises:
            RejectedImage: (a UserError) it cannot be read, or should not be.
        """
        from hilum.imaging.read import read_image

        return read_image(path, self.about["preprocessing"]["intensity_policy"]).pixels

    def _number_kinds(self, num: int, view_kind: Sequence[str] | None) -> np.ndarray | None:
        if not self.view_kinds:
            if view_kind is not None:
                raise UserError(
                    "view_kind has no effect: this encoder does not look at the kind of view. Leave it out."
                )
            return None
        known = ", ".join(self.view_kinds)
        if view_kind is None or isinstance(view_kind, str) or len(view_kind) != num:
            found = "none" if view_kind is None else f"'{view_kind}'" if isinstance(view_kind, str) else len(view_kind)
            raise UserError(f"view_kind: found {found}, expected one for each of {num} images, of {known}.")
        if strange := [kind for kind in view_kind if kind not in self.view_kinds]:
            raise UserError(f"view_kind: found '{strange[0]}', expected one of {known}; unknown where nobody knows.")
        return np.array([self.view_kinds.index(kind) for kind in view_kind], np.int64)

    def _answer(self, logit: np.ndarray, probability: np.ndarray, embedding: np.ndarray) -> Answer:
        known = ~np.isnan(self._threshold)
        return Answer(
            findings=self.findings,
            logit=logit,
            probability=probability,
            present=known & (_squash(logit) >= np.where(known, self._threshold, np.inf)),
            has_threshold=known,
            embedding=embedding,
        )


def _squash(logit: np.ndarray) -> Float64[np.ndarray, "image finding"]:
    """As thresholds were: in 64 bit."""
    return 1 / (1 + np.exp(-logit.astype(np.float64)))


def load_bundle(path: Path | str) -> Bundle:
    """Open a bundle after checking every file of it.

    Raises:
        UserError: no bundle, of another format, a file that is missing or was changed, or onnxruntime is missing.
    """
    path = Path(path)
    about = _read_about(path)
    for name, expected in about["files"].items():
        if not (path / name).is_file():
            raise UserError(f"{path / name}: is missing, {ABOUT} lists it. Copy the whole bundle again.")
        found = hash_file(path / name)
        if found != expected["sha256"]:
            raise UserError(
                f"{path / name}: its sha256 is {found[:16]}..., {ABOUT} says {expected['sha256'][:16]}...: it is not "
                "the file that was exported and checked. Copy the whole bundle again."
            )
    return Bundle(path, about, open_session(path / MODEL))


def _read_about(path: Path) -> dict[str, Any]:
    try:
        about = json.loads((path / ABOUT).read_bytes())
    except OSError as error:
        raise UserError(f"{path}: no bundle: it has no {ABOUT}. `hilum export` writes one.") from error
    except ValueError as error:
        raise UserError(f"{path / ABOUT}: not readable as JSON ({error}). Copy the whole bundle again.") from error
    found = about.get("format") if isinstance(about, dict) else None
    if found != FORMAT:
        raise UserError(f"{path / ABOUT}: format {found!r}, this Hilum reads {FORMAT!r}. Export it again.")
    if about.get("digest") != digest_about(about):
        raise UserError(f"{path / ABOUT}: was changed after the export: its digest does not hold. Copy it again.")
    return about


def digest_about(about: dict[str, Any]) -> str:
    """sha256 over bundle.json but for this digest itself."""
    said = {name: value for name, value in about.items() if name != "digest"}
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


def import_runtime() -> Any:
    """onnxruntime, which is an extra.

    Raises:
        UserError: it is not installed.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise UserError("Bundles need onnxruntime: pip install 'hilum[serve]'.") from error
    return onnxruntime


def open_session(path: Path) -> onnxruntime.InferenceSession:
    """The graph on the processor, quietly.

    Raises:
        UserError: onnxruntime is missing, or cannot read the file.
    """
    runtime = import_runtime()
    options = runtime.SessionOptions()
    options.log_severity_level = 3  # errors: what it cannot fold in advance is nobody's affair
    try:
        return runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise UserError(f"{path}: onnxruntime cannot open it: {str(error).splitlines()[0]}") from error
