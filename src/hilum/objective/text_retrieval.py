"""Which text an image finds, and which image a text, over a whole split (L 3.3: duplicates count as hits)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor


def score_text_retrieval(
    image: Float[Tensor, "row dim"], text: Float[Tensor, "row dim"], identical: Bool[Tensor, "row row"]
) -> dict[str, float]:
    """Recall at 1 and 5 and median rank of the first right one, both ways; empty for fewer than two rows.

    identical: whether two rows have the same description; a row is always right for itself.
    """
    if len(image) < 2:
        return {}
    scores = F.normalize(image.float(), dim=1) @ F.normalize(text.float(), dim=1).T
    right = identical | torch.eye(len(scores), dtype=torch.bool, device=scores.device)
    found = {}
    for name, table, truth in (("image_to_text", scores, right), ("text_to_image", scores.T, right.T)):
        best = table.masked_fill(~truth, -torch.inf).amax(dim=1, keepdim=True)
        # What is no better than the right one stands behind half of its equals: constant vectors find nothing.
        rank = 1 + ((table > best) & ~truth).sum(dim=1) + 0.5 * ((table == best) & ~truth).sum(dim=1)
        found |= {f"{name}_recall_{k}": float((rank <= k).float().mean()) for k in (1, 5)}
        found[f"{name}_median_rank"] = float(rank.median())
    return found
