"""Make a bundle: the encoder, its trained head, what they need and where they come from, checked against torch first.

The whole folder appears at the end or not at all.
"""

from __future__ import annotations

import importlib.metadata
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hilum.atomic import make_folder_atomic, write_atomic
from hilum.checksums import hash_file, hash_weights
from hilum.errors import UserError
from hilum.evaluate.finetune.classifier import StudyClassifier
from hilum.evaluate.heads.kept import HeadRecord, read_head
from hilum.evaluate.result import read_result
from hilum.evaluate.subject import Subject, find_subject
from hilum.model.image_encoder import ImageEncoder

from .bundle import ABOUT, FORMAT, MODEL, README, digest_about
from .describe import describe_licences, describe_preprocessing, describe_provenance, describe_test
from .graph import BATCHES, TOLERANCE, ImageScorer, compare_with_torch, write_graph
from .plain_timm import write_timm
from .readme import write_readme

_CALIBRATION = "none fitted: probabilities are the sigmoid of the logits, as trained at the prevalence of training"
_RULES = {
    "study": "the mean of the logits of a study's images, then sigmoid; embeddings: their mean",
    "breast": "the mean of the logits of a breast's images, then sigmoid; embeddings: their mean",
    "view": "none: every image by itself",
}
INTENDED_USE = (
    "Research on images like those it was trained and tested on. Not a medical device: not for diagnosis or treatment, "
    "nor for any decision about a patient."
)


def write_bundle(
    run: Path | str,
    out: Path,
    *,
    head: Path | None = None,
    embedding_only: bool = False,
    weights_licence: str | None = None,
    intended_use: str = INTENDED_USE,
) -> dict[str, Any]:
    """Write the bundle of an encoder and its trained head to `out`, a new folder, and return what bundle.json says.

    Args:
        run: run folder, weights file or public encoder (`subject.py`); a fine-tuned one brings its head.
        head: folder of `hilum probe`, or one of its cells, or of a fine-tuning.
        embedding_only: no head: only vectors.
        weights_licence: what may be done with the weights; where not given, what their publishers said, or not stated.
        intended_use: statement in the bundle.

    Raises:
        UserError: there is no trained head, or it is not this encoder's; ONNX cannot say the network, or says something
            else than torch; `out` is not free. Then there is no bundle.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"--out {out} exists already. Choose a new folder.")
    subject = find_subject(run)
    if subject.is_random:
        raise UserError(f"{subject.name}: random weights; there is nothing to export. Train it, by `hilum finetune`.")
    encoder = subject.load(0)
    if embedding_only and head is not None:
        raise UserError("--head has no effect beside --embedding-only: leave one of them out.")
    folder = None if embedding_only else find_head(run, head, encoder)
    state, record = (None, None) if folder is None else read_head(folder)
    scorer = build_scorer(subject, encoder, state, record)
    out.parent.mkdir(parents=True, exist_ok=True)
    with make_folder_atomic(out) as made:
        write_graph(scorer, made / MODEL)
        reached = compare_with_torch(scorer, made / MODEL)
        plain = write_timm(encoder, scorer.kinds, made)
        about = _describe(subject, scorer, folder, record, weights_licence, intended_use)
        about |= {"check": _describe_check(reached), "timm": plain}
        write_atomic(made / README, write_readme(about))
        about["files"] = {
            path.name: {"bytes": path.stat().st_size, "sha256": hash_file(path)} for path in sorted(made.iterdir())
        }
        about["digest"] = digest_about(about)
        write_atomic(made / ABOUT, json.dumps(about, indent=1, allow_nan=False) + "\n")
    return about


def find_head(run: Path | str, head: Path | None, encoder: ImageEncoder) -> Path:
    """The folder with the trained head of this encoder.

    Raises:
        UserError: there is none, or it was trained on another encoder's features.
    """
    own = Path(run) if Path(run).is_dir() else Path(run).parent
    if head is None and not (own / "head.json").is_file():
        raise UserError(
            f"{run}: has no trained head, and a bundle without one would answer at random. Train one: `hilum probe "
            f"{run} --data CACHE --out PROBE`, then add --head PROBE; or `hilum finetune {run} --data CACHE --out "
            "TUNED` and export TUNED. For vectors alone say --embedding-only."
        )
    head = own if head is None else head
    weights = hash_weights(encoder)
    candidates = list_heads(head)
    found = {path: read_head(path)[1] for path in candidates}
    for path, record in found.items():
        if record.weights == weights:
            return path
    names = ", ".join(dict.fromkeys(record.encoder for record in found.values()))
    raise UserError(
        f"{head}: its heads were trained on features of other encoders ({names}), not of {run} as it is now. Probe "
        "this encoder, or export the one that the head belongs to."
    )


def list_heads(folder: Path) -> Sequence[Path]:
    """Folders with a head: the folder itself, or the cells of a probe's encoders.

    Raises:
        UserError: there are none, and why not.
    """
    if (folder / "head.json").is_file():
        return [folder]
    if (folder / "risk.json").is_file():
        raise UserError(
            f"{folder}: its heads say a risk for each year from all views of an exam, and a bundle answers for single "
            "studies' findings: no such head goes into one. Export vectors with --embedding-only."
        )
    if not (folder / "probe.json").is_file():
        raise UserError(
            f"{folder}: no trained head (no head.json) and no probe (no probe.json) is in it. Give the folder of "
            "`hilum probe` or `hilum finetune`."
        )
    try:
        summary = json.loads((folder / "probe.json").read_bytes())
        cells = [(folder / arm["path"]).parent for arm in summary["arms"] if arm["role"] == "encoder"]
        made_by = summary["protocol"], summary["head"]
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{folder / 'probe.json'}: not readable as what `hilum probe` writes ({type(error).__name__}: {error}). "
            "Copy the folder again, or probe again."
        ) from error
    kept = [cell for cell in cells if (cell / "head.json").is_file()]
    if kept:
        return kept
    why = {
        "crossval": "cross-validation trains many heads and keeps none: probe without --crossval",
        "knn": "nearest neighbours hold vectors of patients' studies and are not kept: probe with --head linear",
        "attentive": "it read regions in the place of tokens: probe with --head linear",
    }
    known = (why[one] for one in made_by if one in why)
    reason = next(known, "it was probed by an earlier Hilum: probe again")
    raise UserError(f"{folder}: keeps no trained head: {reason}.")


def build_scorer(
    subject: Subject, encoder: ImageEncoder, state: dict[str, Tensor] | None, record: HeadRecord | None
) -> ImageScorer:
    """What is exported: encoder and head in 32 bit on the processor, in evaluation mode.

    Raises:
        UserError: nobody says what the encoder's pixels are normalised by, or the head does not fit.
    """
    if subject.mean is None or subject.std is None:
        raise UserError(f"{subject.name}: its file does not say what its pixels were normalised by. Import it again.")
    encoder = encoder.float().cpu()
    if state is None or record is None:
        classifier = StudyClassifier(encoder, 1, "mean")
    else:
        if record.fusion != "mean_logit":
            raise UserError(
                f"{subject.name}: its head's views are put together by {record.fusion}; expected mean_logit."
            )
        classifier = StudyClassifier(encoder, len(record.findings), record.representation)
        own = {name: value for name, value in classifier.state_dict().items() if not name.startswith("encoder.")}
        if {name: value.shape for name, value in own.items()} != {name: value.shape for name, value in state.items()}:
            raise UserError(f"{subject.name}: the head's tensors do not fit its own record. Probe or fine-tune again.")
        classifier.load_state_dict(state, strict=False)
    return ImageScorer(classifier.eval().requires_grad_(False), subject.mean, subject.std, state is not None)


def _describe(
    subject: Subject,
    scorer: ImageScorer,
    folder: Path | None,
    record: HeadRecord | None,
    weights_licence: str | None,
    intended_use: str,
) -> dict[str, Any]:
    encoder = scorer.classifier.encoder
    tested = {} if folder is None or record is None else describe_test(record, read_result(folder / "result.json"))
    unit = "view" if record is None else record.unit
    return {
        "format": FORMAT,
        "encoder": subject.name,
        "hilum": importlib.metadata.version("hilum"),
        "intended_use": intended_use,
        "findings": []
        if record is None
        else [
            {"name": one.name, "threshold": one.threshold, "learned": one.learned, "test": tested.get(one.name)}
            for one in record.findings
        ],
        "thresholds": None
        if record is None
        else {"on": "probability", "chosen_by": record.threshold_chosen_by, "data": record.data},
        "calibration": None,
        "calibration_note": _CALIBRATION,
        "views": {"unit": unit, "rule": _RULES[unit], "at_most": None if record is None else record.max_views},
        "view_kinds": list(scorer.kinds),
        "outputs": list(scorer.outputs),
        "embedding": {
            "read": scorer.classifier.representation,
            "numbers": scorer.classifier.head.in_features,
        },
        "preprocessing": describe_preprocessing(subject, scorer, record),
        "provenance": describe_provenance(subject, hash_weights(encoder), record),
        "licences": describe_licences(subject, encoder, record, weights_licence),
    }


def _describe_check(reached: dict[str, float]) -> dict[str, Any]:
    return {
        "largest_difference": reached,
        "allowed_below": TOLERANCE,
        "batches": list(BATCHES),
        "against": f"torch {torch.__version__}, 32 bit, on the processor",
        "onnxruntime": importlib.metadata.version("onnxruntime"),
    }
