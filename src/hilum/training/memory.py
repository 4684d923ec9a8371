"""Will it fit: a rough count before the first step, and a message that helps when it did not."""

from __future__ import annotations

import resource
import sys
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from hilum.config import Captioning, Config, ConvEncoderConfig, CrossDecoder, Reconstruction, find_whole_terms
from hilum.errors import UserError
from hilum.model.adapt import count_trained
from hilum.model.masking import count_visible

_GIB = 2.0**30


def estimate_memory(model: nn.Module, config: Config, *, views: float, half: bool) -> tuple[float, float]:
    """Rough bytes that training needs in one process: (what belongs to weights; kept activations).

    To weights belong, where they are trained, gradients and the optimiser's means, two as of AdamW (Muon keeps one).
    A transformer layer keeps about (9 + 2 mlp_ratio) token-lengths per token and two values per attention score for
    its backward pass (counted as in Korthikanti et al. 2022, section 4.1, without dropout).

    Args:
        model: What is trained.
        config: For its encoder, masks and decoders.
        views: Views computed at a time in this process.
        half: Whether activations are kept in 16 bit (LayerNorms keep 32 even so).
    """
    parameters = sum(parameter.numel() for parameter in model.parameters())
    fixed = 4.0 * parameters + 12.0 * count_trained(model)
    if isinstance(config.encoder, ConvEncoderConfig):
        return fixed, _count_convolutions(config.encoder, views) * (3 if half else 4)
    encoder = config.encoder
    num_visible = 1 + count_visible(encoder.num_patches, config.mask.ratio)
    num_masked = encoder.num_patches + 1 - num_visible
    whole_terms = find_whole_terms(config)
    passes = [num_visible] if len(whole_terms) < len(config.terms) else []
    passes += [encoder.num_patches + 1] if whole_terms else []
    values = sum(
        encoder.depth * _count_layer(tokens, tokens, encoder.width, encoder.heads, encoder.mlp_ratio)
        for tokens in passes
    )
    for term in config.terms.values():
        if isinstance(term, Captioning):  # as if every view were a study with a report of full length
            words, width, heads = config.text.length, term.decoder.width, term.decoder.heads
            layer = _count_layer(words, words, width, heads, term.decoder.mlp_ratio)
            layer += _count_layer(words, num_visible, width, heads, 0.0)
            values += term.decoder.depth * (layer + num_visible * (encoder.width + 2 * width))
        if not isinstance(term, Reconstruction):
            continue
        decoder = term.decoder
        queries, keys = encoder.num_patches + 1, encoder.num_patches + 1
        if isinstance(decoder, CrossDecoder):
            queries, keys = max(1, int(decoder.predict * num_masked)), num_visible
            values += decoder.depth * num_visible * (2 * encoder.width + 2 * decoder.width)
        values += decoder.depth * _count_layer(queries, keys, decoder.width, decoder.heads, decoder.mlp_ratio)
    pixels = 3 * 4 * encoder.image_size**2
    return fixed, views * (values * (3 if half else 4) + pixels)


def _count_convolutions(encoder: ConvEncoderConfig, views: float) -> float:
    """Numbers that are kept for the backward pass: what every layer gives of the views that are computed together."""
    from hilum.model.conv_encoder import ConvEncoder  # where it is asked for: it brings timm's networks

    total = 0

    def add(module: nn.Module, given: object, found: object) -> None:
        nonlocal total
        if isinstance(found, torch.Tensor) and not any(module.children()):
            total += found.numel()

    with torch.device("meta"):  # shapes alone
        model = ConvEncoder(replace(encoder, chunk=None))
        for part in model.modules():
            part.register_forward_hook(add)
        model.encode(torch.zeros(1, 1, *encoder.image_size))
    together = views if encoder.chunk is None else min(views, encoder.chunk)
    return together * total + views * encoder.image_height * encoder.image_width


def _count_layer(queries: int, keys: int, width: int, heads: int, mlp_ratio: float) -> float:
    return queries * width * (9 + 2 * mlp_ratio) + 2 * heads * queries * keys


def measure_available_memory(device: torch.device) -> float | None:
    """Bytes this process may still take on `device`; None where the system does not say."""
    if device.type == "cuda":
        return float(torch.cuda.mem_get_info(device)[0])
    limits = []
    meminfo = Path("/proc/meminfo")
    if meminfo.exists():
        rows = dict(line.split(":", 1) for line in meminfo.read_text().splitlines())
        limits.append(float(rows["MemAvailable"].split()[0]) * 1024)
    group = Path("/sys/fs/cgroup")  # a container's or a batch job's share
    if (group / "memory.max").exists() and (limit := (group / "memory.max").read_text().strip()) != "max":
        limits.append(float(limit) - float((group / "memory.current").read_text()))
    return min(limits, default=None)


def measure_peak_memory(device: torch.device) -> float:
    """Most memory this process has used so far on `device`, in MiB."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    # In KiB on Linux, in bytes on macOS.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def _advise(batch_terms: Sequence[str]) -> str:
    """What to change; `batch_terms` name the terms for which smaller parts are another objective."""
    same = (
        f"but {' and '.join(batch_terms)} will compare the views of a part only" if batch_terms else "the same result"
    )
    return (
        f"raise --optim.accumulate (smaller parts, {same}), lower --data.views-per-step, "
        "set --run.precision bf16-mixed, or choose a smaller --size"
    )


def describe_memory(fixed: float, activations: float, available: float | None, batch_terms: Sequence[str] = ()) -> str:
    """One line for the start of a run, with a warning where it will hardly fit; see `_advise` for `batch_terms`."""
    text = f"memory: about {(fixed + activations) / _GIB:.1f} GiB ({fixed / _GIB:.1f} weights and optimiser"
    text += f", {activations / _GIB:.1f} activations)"
    if available is None:
        return text
    text += f" of {available / _GIB:.1f} GiB available"
    return text + (f". That is tight: {_advise(batch_terms)}." if fixed + activations > 0.9 * available else "")


def tells_exhaustion(error: BaseException) -> bool:
    """Whether an error means that memory ran out, in the several forms that torch and Python raise it."""
    told = "can't allocate memory" in str(error) or "not enough memory" in str(error)  # torch's words on a processor
    return told or isinstance(error, torch.OutOfMemoryError | MemoryError)


def describe_exhaustion(parts: int, batch_terms: Sequence[str] = ()) -> str:
    """What to change of a pretraining whose memory ran out, for `explain_exhaustion`.

    Args:
        parts: The present `optim.accumulate`.
        batch_terms: Names of the terms that compare the views of a batch: a run that has one keeps its parts.
    """
    may_change = "--run.precision" if batch_terms else "--optim.accumulate or --run.precision"
    return (
        f"computed in {parts} part{'s' if parts > 1 else ''}: {_advise(batch_terms)}. "
        f"A run that has begun can be continued (--resume) with another {may_change}; the rest needs a new --out"
    )


@contextmanager
def explain_exhaustion(advice: str) -> Generator[None, None, None]:
    """Turn "out of memory" into what to change.

    Args:
        advice: What the step is of and what to do, such as "of 64 views: lower --views-per-step".

    Raises:
        UserError: memory ran out within the block.
    """
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        if not tells_exhaustion(error):
            raise
        told = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"Out of memory in a step {advice}. ({told})") from error
