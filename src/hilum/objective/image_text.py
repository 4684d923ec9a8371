"""MV-MLM's losses: views with the text of their breast, the two views with each other (and Mammo-CLIP's two texts).

| symbol (MV-MLM; L 1.5) | name here |
|---|---|
| z_CC, z_MLO, z_T | `features.embedding` at `Breasts.views`, `features.text_embedding` at `find_texts` |
| L_I,T = 1/2 [NCE(z_CC, z_T) + NCE(z_MLO, z_T)] | `ImageTextContrast` |
| L_I,I = NCE(z_MLO, z_CC) | `ViewContrast` |
| lambda | the weight of `ViewContrast` |
| text-text part of Mammo-CLIP's total | `TextContrast` |

Each kind of view is contrasted among its kind: a CC view finds its text among the texts of all breasts with a CC view.
The mean is over the pairs of a view and a text that exist; where every breast has both views, that is the sum above.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from hilum.batch import StudyBatch
from hilum.config import ImageTextContrast as ImageTextContrastConfig
from hilum.config import TextContrast as TextContrastConfig
from hilum.config import ViewContrast as ViewContrastConfig
from hilum.model.encoder import Features
from hilum.model.masking import Mask

from .breasts import Breasts, Rows, compare_rows, find_breasts, find_texts
from .gather import Gather
from .pair_contrast import (
    MAX_SCALE,
    MIN_SCALE,
    build_target,
    find_hits,
    measure_pair_contrast,
    measure_pair_sigmoid,
    measure_similarity,
)
from .term import Sum, Term, sum_items
from .text_retrieval import score_text_retrieval

ReadScale = Callable[[], Float[Tensor, ""]]


class Scale(nn.Module):
    """1 / temperature, learned as a logarithm."""

    def __init__(self, temperature: float) -> None:
        super().__init__()
        self.log = nn.Parameter(torch.tensor(math.log(1 / temperature)))
        self.constrain()

    def forward(self) -> Float[Tensor, ""]:
        return self.log.exp()

    @torch.no_grad()
    def constrain(self) -> None:
        self.log.clamp_(math.log(MIN_SCALE), math.log(MAX_SCALE))


class _Pairs(NamedTuple):
    """Paired vectors of this process, those of all processes, and how they stand to each other."""

    first: Float[Tensor, "row dim"]
    second: Float[Tensor, "row dim"]
    all_first: Float[Tensor, "column dim"]
    all_second: Float[Tensor, "column dim"]
    rows: Rows


class _PairTerm(Term):
    """What the three terms share: whole views, a learned scale, vectors of all processes."""

    sees_whole = True
    scale: ReadScale

    def constrain(self) -> None:
        if isinstance(own := getattr(self, "own_scale", None), Scale):
            own.constrain()

    def _set_scale(self, temperature: float | None, shared: ReadScale | None) -> None:
        """A scale of its own, or, without a temperature, that of another term, which keeps it."""
        if temperature is None:
            assert shared is not None, "check_effects refuses this"
            self.scale = shared
        else:
            self.own_scale = Scale(temperature)
            self.scale = self.own_scale.forward

    def _reach_all(self, features: Features) -> Float[Tensor, ""]:
        """0, with a gradient to every parameter and every vector, so that processes without any row stay in step."""
        vectors = [part for part in (features.embedding, features.text_embedding) if part is not None]
        return 0.0 * torch.stack([part.float().sum() for part in (*vectors, *self.parameters())]).sum()


def _pair(first: Tensor, second: Tensor, batch: StudyBatch, breasts: Breasts, chosen: Tensor, gather: Gather) -> _Pairs:
    everyone = gather(torch.cat([first, second], dim=1))
    return _Pairs(first, second, *everyone.chunk(2, dim=1), compare_rows(batch, breasts, chosen, gather))


class ImageTextContrast(_PairTerm):
    """Each view finds the text of its breast, and the text each view (L_I,T)."""

    def __init__(self, config: ImageTextContrastConfig) -> None:
        super().__init__()
        self.config = config
        self._set_scale(config.temperature, None)
        # Most pairs are none: at this bias the loss starts near what they cost (Zhai et al. 2023).
        self.bias = nn.Parameter(torch.tensor(-10.0)) if config.target == "sigmoid" else None

    def _find(self, batch: StudyBatch) -> tuple[Breasts, Int64[Tensor, "breast text"]]:
        breasts = find_breasts(batch, self.config.views)
        return breasts, find_texts(batch, breasts, self.config.num_texts)

    def count(self, batch: StudyBatch) -> float:
        breasts, texts = self._find(batch)
        return float(((breasts.views[:, :, None] >= 0) & (texts[:, None] >= 0)).sum())

    def forward(self, features: Features, mask: Mask, batch: StudyBatch, gather: Gather) -> dict[str, Sum]:
        assert features.embedding is not None
        assert features.text_embedding is not None
        breasts, texts = self._find(batch)
        losses, figures = [self._reach_all(features)[None]], []
        for view in range(2):
            for number in range(self.config.num_texts):
                chosen = ((breasts.views[:, view] >= 0) & (texts[:, number] >= 0)).nonzero()[:, 0]
                text = texts[chosen, number]
                images = features.embedding[breasts.views[chosen, view]]
                pairs = _pair(images, features.text_embedding[text], batch, breasts, chosen, gather)
                loss, found = self._compare(pairs, text, batch, gather)
                losses.append(loss)
                figures.append(found)
        sums = {name: sum_items(torch.cat([found[name] for found in figures])) for name in figures[0]}
        if self.config.target == "sigmoid":
            del sums["chance_loss"]  # it compares no row with all at once
        return {
            "loss": sum_items(torch.cat(losses), self.count(batch)),
            **sums,
            "scale": sum_items(self.scale().detach()[None]),
        }

    def _compare(
        self, pairs: _Pairs, text: Int64[Tensor, " row"], batch: StudyBatch, gather: Gather
    ) -> tuple[Float[Tensor, " row"], dict[str, Float[Tensor, " row"]]]:
        """Loss of each pair, and figures for the log."""
        (own, allowed), kind = pairs.rows, self.config.target
        facts, key = batch.descriptions.facts[text], batch.descriptions.key[text]
        with torch.autocast(key.device.type, enabled=False):
            similarity = measure_similarity(facts, key, gather(facts), gather(key))
            if kind == "sigmoid":
                assert self.bias is not None
                is_pair = (similarity == 1).scatter(1, own[:, None], True)
                loss = measure_pair_sigmoid(pairs.first, pairs.all_second, is_pair, allowed, self.scale(), self.bias)
            else:
                target = build_target(similarity, own, allowed, kind, self.config.similarity_power)
                loss = measure_pair_contrast(*pairs[:4], target, self.scale())
            with torch.no_grad():
                return loss, describe_rows(pairs, similarity)

    def list_rows(self, features: Features, batch: StudyBatch) -> dict[str, Tensor]:
        """Of each breast with a view and a text: the mean of its views' unit vectors, its text's, whose it is."""
        assert features.embedding is not None
        assert features.text_embedding is not None
        breasts, texts = self._find(batch)
        chosen = (texts[:, 0] >= 0).nonzero()[:, 0]
        views, text = breasts.views[chosen], texts[chosen, 0]
        unit = nn.functional.normalize(features.embedding.float(), dim=1)[views.clamp(min=0)]
        return {
            "image": (unit * (views >= 0)[:, :, None]).sum(dim=1),
            "text": features.text_embedding[text],
            "facts": batch.descriptions.facts[text],
            "key": batch.descriptions.key[text],
        }

    def score_rows(self, rows: dict[str, Tensor]) -> dict[str, float]:
        similarity = measure_similarity(rows["facts"], rows["key"], rows["facts"], rows["key"])
        return score_text_retrieval(rows["image"], rows["text"], similarity == 1)


def describe_rows(pairs: _Pairs, similarity: Float[Tensor, "row column"]) -> dict[str, Float[Tensor, " row"]]:
    """For the log, of each row: whether the nearest text and the nearest image are right ones (of an identical
    description counts), how many negatives have an identical description, and whether any has; and ln N of the N it is
    compared with, which is the loss of who knows nothing."""
    own, allowed = pairs.rows
    itself = torch.zeros_like(allowed).scatter(1, own[:, None], True)
    right = (similarity == 1) | itself
    identical = ((similarity == 1) & allowed & ~itself).sum(dim=1).float()
    return {
        "chance_loss": (allowed | itself).sum(dim=1).float().log(),
        "image_to_text_accuracy": find_hits(pairs.first, pairs.all_second, allowed, right),
        "text_to_image_accuracy": find_hits(pairs.second, pairs.all_first, allowed, right),
        "identical_negatives": identical,
        "any_identical_negative": (identical > 0).float(),
    }


class ViewContrast(_PairTerm):
    """The two views of a breast find each other among other patients' (L_I,I), as far as they show the same."""

    def __init__(self, config: ViewContrastConfig, projection: int, shared_scale: ReadScale | None) -> None:
        """`projection`: numbers of a view's vector, of which the first share is compared."""
        super().__init__()
        self.config = config
        self.num_shared = max(1, round(config.shared * projection))
        self._set_scale(config.temperature, shared_scale)

    def _weigh(self, batch: StudyBatch) -> tuple[Breasts, Int64[Tensor, " pair"], Float[Tensor, " pair"]]:
        """Breasts with both views, and what each counts."""
        breasts = find_breasts(batch, self.config.views)
        chosen = (breasts.views >= 0).all(dim=1).nonzero()[:, 0]
        text = find_texts(batch, breasts, 1)[chosen, 0]
        weight = torch.ones(len(chosen), device=text.device)
        if len(batch.descriptions.owner):
            alone = batch.descriptions.single_view[text.clamp(min=0)] & (text >= 0)
            weight = weight.masked_fill(alone, self.config.single_view_weight)
        return breasts, chosen, weight

    def count(self, batch: StudyBatch) -> float:
        return float(self._weigh(batch)[2].sum())

    def forward(self, features: Features, mask: Mask, batch: StudyBatch, gather: Gather) -> dict[str, Sum]:
        assert features.embedding is not None
        breasts, chosen, weight = self._weigh(batch)
        # The second kind first: NCE(z_MLO, z_CC). It is symmetric.
        vectors = features.embedding[:, : self.num_shared]
        second, first = (vectors[breasts.views[chosen, view]] for view in (1, 0))
        pairs = _pair(second, first, batch, breasts, chosen, gather)
        own, allowed = pairs.rows
        with torch.autocast(own.device.type, enabled=False):
            target = build_target(torch.zeros_like(allowed, dtype=torch.float32), own, allowed, "onehot")
            items = weight * measure_pair_contrast(*pairs[:4], target, self.scale())
            itself = torch.zeros_like(allowed).scatter(1, own[:, None], True)
            with torch.no_grad():
                hits = find_hits(pairs.first, pairs.all_second, allowed, itself)
                chance = target.allowed.sum(dim=1).float().log()
        return {
            "loss": sum_items(torch.cat([self._reach_all(features)[None], items]), float(weight.sum())),
            "accuracy": sum_items(hits),
            "chance_loss": sum_items(chance),
            "scale": sum_items(self.scale().detach()[None]),
        }


class TextContrast(_PairTerm):
    """Two texts of one breast find each other among other patients' (Mammo-CLIP)."""

    def __init__(self, config: TextContrastConfig, images: ImageTextContrastConfig, shared_scale: ReadScale) -> None:
        """`images`: the term whose texts these are."""
        super().__init__()
        self.views = images.views
        self._set_scale(config.temperature, shared_scale)

    def _find(self, batch: StudyBatch) -> tuple[Breasts, Int64[Tensor, "breast 2"]]:
        breasts = find_breasts(batch, self.views)
        return breasts, find_texts(batch, breasts, 2)

    def count(self, batch: StudyBatch) -> float:
        return float((self._find(batch)[1][:, 0] >= 0).sum())

    def forward(self, features: Features, mask: Mask, batch: StudyBatch, gather: Gather) -> dict[str, Sum]:
        assert features.text_embedding is not None
        breasts, texts = self._find(batch)
        chosen = (texts[:, 0] >= 0).nonzero()[:, 0]
        first, second = (features.text_embedding[texts[chosen, number]] for number in (0, 1))
        pairs = _pair(first, second, batch, breasts, chosen, gather)
        own, allowed = pairs.rows
        with torch.autocast(own.device.type, enabled=False):
            target = build_target(torch.zeros_like(allowed, dtype=torch.float32), own, allowed, "onehot")
            items = measure_pair_contrast(*pairs[:4], target, self.scale())
        return {"loss": sum_items(torch.cat([self._reach_all(features)[None], items]), len(chosen))}


def doubt_first_losses(losses: Mapping[str, float], sums: Mapping[str, float]) -> list[str]:
    """Warnings of contrasts whose first loss is more than 1 from ln N, that of vectors that know nothing (L 1.5).

    Args:
        losses: of the terms in the first step.
        sums: of a step; `<term>/chance_loss` of terms that contrast, and its count.
    """
    lines = []
    for name, loss in losses.items():
        count = sums.get(f"{name}/chance_loss/count", 0.0)
        chance = sums[f"{name}/chance_loss"] / count if count else None
        if chance is not None and abs(loss - chance) > 1:
            lines.append(
                f"warning: the first loss of {name} is {loss:.2f}, and would be about ln N = {chance:.2f} of vectors "
                "that know nothing: unless the weights it starts from know something, its temperature is too low, or "
                "views and texts do not belong together"
            )
    return lines


def compare_losses(terms: Mapping[str, object], losses: Mapping[str, float]) -> dict[str, float]:
    """`<views>/ratio`: L_I,I over L_I,T, which far below 1 early in a run is a sign of failure (L 1.5)."""
    text = next((name for name, term in terms.items() if isinstance(term, ImageTextContrast)), None)
    if text is None or not losses[text]:
        return {}
    views = (name for name, term in terms.items() if isinstance(term, ViewContrast))
    return {f"{name}/ratio": losses[name] / losses[text] for name in views}
