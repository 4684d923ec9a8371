"""An encoder with its head as one ONNX graph, and what both say of the same images."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from hilum.errors import UserError
from hilum.evaluate.finetune.classifier import StudyClassifier
from hilum.model.encoder import Encoder
from hilum.model.image_encoder import ImageEncoder
from hilum.vocabulary import VIEW_KINDS

from .bundle import EMBEDDING, IMAGE, LOGIT, PROBABILITY, VIEW_KIND, import_runtime, open_session

TOLERANCE = 1e-3  # the reference's (P 12 item 20)
BATCHES = (1, 2, 5)


class ImageScorer(nn.Module):
    """Grey pixels from 0 to 1, of the encoder's size, to logits, probabilities and the vector that the head reads.

    Normalisation is part of it.

    Args:
        classifier: in evaluation mode, in 32 bit.
        mean, std: normalisation of the encoder's pixels.
        has_head: False: its head is nobody's, and the vector is all there is.
    """

    def __init__(self, classifier: StudyClassifier, mean: float, std: float, has_head: bool = True) -> None:
        super().__init__()
        self.classifier, self.mean, self.std, self.has_head = classifier, mean, std, has_head
        self.kinds = list_kinds(classifier.encoder)

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of what it says."""
        return (LOGIT, PROBABILITY, EMBEDDING) if self.has_head else (EMBEDDING,)

    def forward(
        self, image: Float[Tensor, "image 1 height width"], view_kind: Int64[Tensor, " image"] | None = None
    ) -> tuple[Tensor, ...]:
        if view_kind is None:  # the encoder does not look at it
            view_kind = torch.zeros_like(image[:, 0, 0, 0], dtype=torch.int64)
        read = self.classifier.read_views((image - self.mean) * (1.0 / self.std), view_kind)
        if not self.has_head:
            return (read,)
        logit = self.classifier.head(read)
        return logit, torch.sigmoid(logit), read


def list_kinds(encoder: ImageEncoder) -> tuple[str, ...]:
    """The kinds of view that it tells apart, in the order of its numbers; none where their vectors are all the same,
    so that nobody is asked for what changes nothing."""
    if not isinstance(encoder, Encoder) or encoder.view_embed is None:
        return ()
    differ = bool((encoder.view_embed != encoder.view_embed[:1]).any())
    return VIEW_KINDS[: encoder.config.num_view_kinds] if differ else ()


def show_images(scorer: ImageScorer, num: int, seed: int) -> tuple[Tensor, ...]:
    """Images to compare on (noise, one ramp and one black image among them) with all kinds of view in turn."""
    size = scorer.classifier.encoder.image_size
    height, width = (size, size) if isinstance(size, int) else size
    generator = torch.Generator().manual_seed(seed)
    image = torch.rand(num, 1, height, width, generator=generator)
    if num > 2:
        image[-1] = 0.0
        image[-2] = torch.linspace(0, 1, height)[:, None]
    if not scorer.kinds:
        return (image,)
    return image, (torch.arange(num) + seed) % len(scorer.kinds)


def write_graph(scorer: ImageScorer, path: Path) -> None:
    """Write an ONNX file whose first dimension is free.

    Raises:
        UserError: onnx or onnxscript is missing, or the network holds something that ONNX cannot say.
        OSError: the file cannot be written.
    """
    import_runtime()
    try:
        import onnxscript  # noqa: F401 - torch.onnx needs it, and onnx
        from onnx_ir.passes.common import ClearMetadataAndDocStringPass
    except ImportError as error:
        raise UserError(f"Writing ONNX needs {error.name}: pip install 'hilum[serve]'.") from error
    batch = torch.export.Dim("batch", min=1)
    inputs = show_images(scorer, 3, seed=0)
    free = tuple({0: batch} for _ in inputs)
    names, said = [IMAGE, VIEW_KIND][: len(inputs)], list(scorer.outputs)
    try:
        with warnings.catch_warnings(), torch.no_grad():
            # Of torch.onnx: both inputs share a dimension, as they should; and what its own dependencies deprecate.
            warnings.simplefilter("ignore")
            logging.getLogger("onnxscript").setLevel(logging.ERROR)
            # Once for real: positions that a network computes once and keeps would be kept as those of a tracing.
            scorer(*inputs)
            # Here and not within torch.onnx, which would try again otherwise where a size is frozen.
            program = torch.export.export(scorer, inputs, dynamic_shapes=free)
            graph = torch.onnx.export(
                program, (), input_names=names, output_names=said, dynamic_shapes=free, verbose=False
            )
            assert graph is not None, "a program is what the dynamo exporter returns"
            ClearMetadataAndDocStringPass()(graph.model)  # each node's trace: folders of who exports, and their names
            graph.save(path, external_data=False)
    except OSError:  # a full disk is not the network's fault
        raise
    except Exception as error:
        reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise UserError(
            f"{type(scorer.classifier.encoder).__name__}: this encoder cannot be written as ONNX "
            f"({type(error).__name__}: {reason}). No bundle was written."
        ) from error


def compare_with_torch(scorer: ImageScorer, path: Path) -> dict[str, float]:
    """Largest difference between the file, run by onnxruntime, and torch in 32 bit, of each output over batches of 1,
    2 and 5 images of all kinds of view.

    Raises:
        UserError: a batch of one of these sizes does not run or has another shape, a number is not finite, or a
            difference of the logits, probabilities or vector reaches `TOLERANCE`.
    """
    session = open_session(path)
    largest = dict.fromkeys(scorer.outputs, 0.0)
    for num in BATCHES:
        for seed in range(max(1, len(scorer.kinds))):
            inputs = show_images(scorer, num, seed)
            fed = {name: value.numpy() for name, value in zip((IMAGE, VIEW_KIND), inputs, strict=False)}
            with torch.no_grad():
                expected = [value.numpy() for value in scorer(*inputs)]
            try:
                found = session.run(list(scorer.outputs), fed)
            except Exception as error:
                raise UserError(
                    f"The ONNX file does not run a batch of {num}: {error}. No bundle was written."
                ) from error
            for name, one, other in zip(scorer.outputs, expected, found, strict=True):
                other = np.asarray(other)
                if one.shape != other.shape or not np.isfinite(one).all() or not np.isfinite(other).all():
                    raise UserError(
                        f"The ONNX file gives {name} of shape {other.shape} for a batch of {num}, torch {one.shape}; "
                        "or one of them is not finite. No bundle was written."
                    )
                largest[name] = max(largest[name], float(np.abs(one - other).max()))
    if failed := {name: value for name, value in largest.items() if value >= TOLERANCE}:
        said = ", ".join(f"{name} by {value:.2g}" for name, value in failed.items())
        raise UserError(f"ONNX and torch differ: {said}; allowed is less than {TOLERANCE}. No bundle was written.")
    return largest
