"""What bundle.json says of images, origins, licences and tests: taken from records, never typed anew."""

from __future__ import annotations

import importlib.metadata
import re
from typing import Any

from hilum.errors import UserError
from hilum.evaluate.heads.kept import HeadRecord
from hilum.evaluate.result import Result
from hilum.evaluate.subject import Subject
from hilum.imaging.intensity import MAMMO_CLIP
from hilum.model.image_encoder import ImageEncoder
from hilum.sources.catalogue import ARCHIVES

from .graph import ImageScorer

NOT_STATED = "not stated"
_POLICY = re.compile(r"(?P<grey>[^/]+)/(?:short(?P<short>\d+)|frame(?P<height>\d+)x(?P<width>\d+))/uint(?P<bits>8|16)")


def describe_preprocessing(subject: Subject, scorer: ImageScorer, record: HeadRecord | None) -> dict[str, Any]:
    """From the source's grey image to the graph's input, as the head's features were made.

    Raises:
        UserError: neither head nor encoder says by what policy of a cache images were kept.
    """
    policy = subject.image_policy if record is None else record.pixel_policy
    match = _POLICY.fullmatch(policy or "")
    if match is None:
        raise UserError(
            f"{subject.name}: nothing says which images it reads (its policy is {policy!r}, expected one such as "
            "voi-1/short256/uint8). Export it with a head, whose record says so."
        )
    size = scorer.classifier.encoder.image_size
    height, width = (size, size) if isinstance(size, int) else size
    framed = match["height"] is not None
    crop = subject.read_settings(scorer.classifier.encoder).shown.mode if record is None else record.crop
    stretched = match["grey"] == MAMMO_CLIP
    shape = (
        _describe_frame(match, stretched)
        if framed
        else f"shrunk to a short side of {match['short']} px by Hamming's filter (Pillow's), if it is larger"
    )
    turned = "upright" if framed and not stretched else "upright, never mirrored"
    part = "the central square" if crop == "center" else "the whole image, its sides scaled apart,"
    interpolation = scorer.classifier.encoder.interpolation
    return {
        "intensity_policy": match["grey"],
        "frame": [int(match["height"]), int(match["width"])] if framed else None,
        "short_side": None if framed else int(match["short"]),
        "bits": int(match["bits"]),
        "crop": crop,
        "height": height,
        "width": width,
        "interpolation": interpolation,
        "grey_range": [0.0, 1.0],
        "mean": scorer.mean,
        "std": scorer.std,
        "normalised_by": "the graph itself; feed it values from 0 to 1",
        "axes": ["image", "channel (one, grey)", "row (from the top)", "column (from the left)"],
        "steps": [
            f"grey from 0 (air, black) to 1 by intensity policy {match['grey']}, {turned}",
            shape,
            f"rounded to {match['bits']} bits",
            f"{part} resampled to {height} x {width} px, {interpolation} with antialiasing (Pillow's filter)",
        ],
    }


def _describe_frame(match: re.Match[str], stretched: bool) -> str:
    size = f"{match['height']} x {match['width']} px"
    if stretched:
        return f"the longest runs of columns and rows of two values or more cut out, stretched to {size}"
    return f"the breast cut out, mirrored where its chest wall is at the right, fitted into {size}"


def describe_provenance(subject: Subject, weights: str, record: HeadRecord | None) -> dict[str, Any]:
    """Whose images the encoder and its head learned from: archives, counts and digests; no patient."""
    about = subject.about
    named = ("recipe", "preset", "size", "data_digest", "image_policy", "initial_weights", "finetuning", "imported")
    seen = about.get("pretraining")
    unknown = "what it was pretrained on is not on record"
    head = None
    if record is not None:
        kept = (
            "kind",
            "task",
            "datasets",
            "data",
            "labels",
            "counts",
            "representation",
            "precision",
            "seed",
            "tensors",
        )
        head = {name: getattr(record, name) for name in kept}
    return {
        "hilum": importlib.metadata.version("hilum"),
        "weights": weights,
        "encoder": {name: about[name] for name in named if about.get(name) is not None},
        "pretraining": unknown if seen is None else seen,
        "head": head,
        "notes": list(subject.notes),
    }


def describe_licences(
    subject: Subject, encoder: ImageEncoder, record: HeadRecord | None, weights_licence: str | None
) -> dict[str, Any]:
    """Code, weights and data, which may differ."""
    seen = subject.about.get("pretraining") or {}
    stated = [f"{origin['file']}: {origin['licence']}" for origin in seen.get("imported_weights", ())]
    if "tower" in encoder.record:
        stated.append(f"{encoder.record['tower']['name']}: {encoder.record['tower']['licence']}")
    started = f"started from {'; '.join(stated)}" if stated else ""
    own = weights_licence or (NOT_STATED if not stated else "")
    archives = [*seen.get("datasets", ()), *([] if record is None else record.datasets)]
    return {
        "code": f"Apache-2.0 (Hilum {importlib.metadata.version('hilum')})",
        "weights": "; ".join(part for part in (own, started) if part),
        "data": {name: _find_terms(name) for name in dict.fromkeys(archives)} or NOT_STATED,
    }


def _find_terms(archive: str) -> str:
    return ARCHIVES[archive].licence if archive in ARCHIVES else NOT_STATED


def describe_test(record: HeadRecord, result: Result) -> dict[str, dict[str, Any]]:
    """How each finding was told on test patients; nothing where the result is of other weights than these (the best
    epoch of each finding by itself)."""
    if result.protocol.get("select") == "per-finding":
        return {}
    found: dict[str, dict[str, Any]] = {}
    for one in result.estimates:
        if one.slice == "all" and one.metric in ("auroc", "f1", "calibration_error"):
            said = {"value": one.value, "low": one.low, "high": one.high, "num": one.num, "positives": one.positives}
            found.setdefault(one.of, {})[one.metric] = said
    return {one.name: found.get(one.name, {}) for one in record.findings}
