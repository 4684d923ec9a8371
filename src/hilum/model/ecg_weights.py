"""ECGFounder's published weights from a file the user has (P 1.3). Nothing in the file is ever run."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from hilum.errors import UserError

from .checkpoint_file import read_state
from .net1d import Block, Net1D, Net1DConfig

_HEAD = ("dense.weight", "dense.bias")
_NORM = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
_WHERE = "Expected 12_lead_ECGFounder.pth as PKUDigitalHealth/ECGFounder publishes it"


def load_ecg_founder(path: Path, config: Net1DConfig | None = None) -> Net1D:
    """The network with the weights of `12_lead_ECGFounder.pth`, in evaluation mode, all parameters frozen.

    The head of 150 diagnoses is dropped, and so are the batch norms, which the published network has and does not use.
    Everything else must be there, and nothing more.

    Raises:
        UserError: no such file, damaged, refused (it holds more than tensors), or not these weights; names the tensors
            that are missing, unknown or of another shape.
    """
    with torch.device("meta"):  # shapes only: first values would be drawn for nothing
        net = Net1D(config)
    wanted = net.state_dict()
    found = read_state(path)
    known = {*_HEAD, *list_unused(net)}
    weights = {name: value for name, value in found.items() if name not in known}
    faults = [
        _name_some("missing", [name for name in wanted if name not in weights]),
        _name_some("not known", [name for name in weights if name not in wanted]),
        _name_some(
            "of another shape",
            [
                f"{name} {tuple(weights[name].shape)} instead of {tuple(wanted[name].shape)}"
                for name in wanted
                if name in weights and weights[name].shape != wanted[name].shape
            ],
        ),
        _name_some("not finite", [name for name, value in weights.items() if not _is_finite(value)]),
    ]
    if any(faults):
        raise UserError(f"{path}: not ECGFounder's weights: {'; '.join(filter(None, faults))}. {_WHERE}.")
    net.load_state_dict({name: value.float() for name, value in weights.items()}, assign=True)
    return net.requires_grad_(False).eval()


def list_unused(net: Net1D) -> list[str]:
    """Names of the batch norms' tensors in the published weights: `use_bn` is off, so that they compute nothing."""
    blocks = [name for name, module in net.named_modules() if isinstance(module, Block)]
    norms = ["first_bn", *(f"{block}.bn{number}" for block in blocks for number in (1, 2, 3))]
    return [f"{norm}.{tensor}" for norm in norms for tensor in _NORM]


def _is_finite(value: Tensor) -> bool:
    return value.is_floating_point() and bool(torch.isfinite(value).all())


def _name_some(what: str, names: list[str], num_named: int = 3) -> str:
    if not names:
        return ""
    more = f" and {len(names) - num_named} more" if len(names) > num_named else ""
    return f"{len(names)} {what} ({', '.join(names[:num_named])}{more})"
