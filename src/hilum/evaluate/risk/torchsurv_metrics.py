"""torchsurv's metrics and loss: imported here, without a warning that is its own, and late, since they take seconds."""

from __future__ import annotations

import warnings

with warnings.catch_warnings():
    # torchsurv 0.2 decorates a function with what torch 2.14 calls deprecated.
    warnings.filterwarnings("ignore", message="`torch.jit.script` is deprecated", category=FutureWarning)
    from torchsurv.loss.cox import neg_partial_log_likelihood
    from torchsurv.metrics.auc import Auc
    from torchsurv.metrics.brier_score import BrierScore
    from torchsurv.metrics.cindex import ConcordanceIndex

__all__ = ["Auc", "BrierScore", "ConcordanceIndex", "neg_partial_log_likelihood"]
