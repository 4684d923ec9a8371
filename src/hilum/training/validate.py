"""The same few validation studies again and again: their losses, their features, their pictures.

Views, crops and masks never change during a run, so that a curve shows the model and not the draw (the released MVMAE
code draws all three anew, M 7.1 row 6).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int64
from lightning_fabric import Fabric

from hilum.atomic import open_atomic
from hilum.augment import prepare
from hilum.batch import StudyBatch
from hilum.cache import Cache
from hilum.config import Config, ConvEncoderConfig
from hilum.keyed_random import draw_order
from hilum.loader import iterate_studies
from hilum.model.heads import summarize_views
from hilum.model.masking import Mask, draw_masks, make_no_mask
from hilum.objective.objective import Objective
from hilum.objective.reconstruction import Reconstruction
from hilum.teachers.vectors import TeacherVectors
from hilum.text.descriptions import DescriptionTable
from hilum.text.report_tokens import ReportTokens
from hilum.vocabulary import VIEW_KINDS

from .meters import measure_features

NUM_VIEWS = 64  # scored ten times a run: a small share of it
NUM_TIMES = 10
NUM_PICTURES = 8


class Validation:
    """Scores and pictures of a fixed choice of the validation split; pictures are of the training split without one."""

    def __init__(
        self,
        cache: Cache,
        config: Config,
        texts: ReportTokens | None = None,
        teachers: Mapping[str, TeacherVectors] | None = None,
        descriptions: DescriptionTable | None = None,
    ) -> None:
        self._cache, self._config, self._texts, self._teachers = cache, config, texts, teachers
        self._descriptions = descriptions
        rows = cache.rows("val", config.data.leave_out)
        rows = rows[draw_order("validation", num=len(rows))]
        self._rows = _take_first(cache, rows, NUM_VIEWS)
        shown = rows if len(rows) else cache.rows("train", config.data.leave_out)
        # Studies with several views first: their pictures stand side by side.
        shown = shown[np.argsort(-np.minimum(cache.studies["num_views"][shown], 2), kind="stable")]
        self._shown = _take_first(cache, shown, NUM_PICTURES)

    def is_due(self, step: int, num_steps: int) -> bool:
        """About ten times a run, and after its last step."""
        return len(self._rows) > 0 and (step == num_steps or step % -(-num_steps // NUM_TIMES) == 0)

    @torch.no_grad()
    def score(self, objective: Objective, fabric: Fabric) -> dict[str, float]:
        """`val/<term>`: losses; `val/<term>/...`: figures of terms that give some; `val/features/...`: the meters on
        whole views. One process's affair."""
        totals: dict[str, list[float]] = {}
        rows: dict[str, list[dict[str, torch.Tensor]]] = {name: [] for name in objective.terms}
        vectors, batches = [], []
        together, objective.gather = objective.gather, lambda rows: rows
        objective.eval()
        for batch, mask in self._iterate(self._rows, fabric.device):
            with fabric.autocast():
                passes = objective.encode(batch, mask)
                sums = objective.measure(passes, mask, batch)
                whole = passes.whole or objective.encoder.encode(batch.pixels, batch.view_kind)
                vectors.append(summarize_views(whole).float())
                for name, term in objective.terms.items():
                    rows[name].append(term.list_rows(passes.get(whole=term.sees_whole), batch))
            batches.append(batch)
            for name, parts in sums.items():
                total = totals.setdefault(name, [0.0, 0.0])
                total[0] += float(parts["loss"].value)
                total[1] += float(parts["loss"].count)
        objective.train()
        objective.gather = together
        losses = {f"val/{name}": value / count for name, (value, count) in totals.items() if count}
        for name, parts in rows.items():
            if parts and parts[0]:
                whole_split = {key: torch.cat([part[key] for part in parts]) for key in parts[0]}
                scores = objective.terms[name].score_rows(whole_split)
                losses |= {f"val/{name}/{key}": value for key, value in scores.items()}
        return losses | measure_features(torch.cat(vectors), batches, "val/features/", gather=lambda rows: rows)

    @torch.no_grad()
    def draw_pictures(self, objective: Objective, fabric: Fabric, path: Path) -> None:
        """Save original, masked input and reconstruction of a few views as 8-bit grey in one npz file.

        Arrays: `original`, `input` (masked patches mid-grey), `prediction` (visible patches are the true ones), all
        uint8 (view side side); `mask` bool (view rows columns), True where masked; `study`, `view_kind` int64 (view).
        An objective without reconstruction has no pictures.
        """
        term = next((term for term in objective.terms.values() if isinstance(term, Reconstruction)), None)
        if term is None:
            return
        encoder, parts = self._config.transformer, []
        side = encoder.image_size // encoder.patch_size
        objective.eval()
        for batch, mask in self._iterate(self._shown, fabric.device):
            with fabric.autocast():
                painted = term.paint(objective.encode(batch, mask).get(whole=False), mask, batch)
            masked = torch.zeros(batch.num_views, side * side, dtype=torch.bool, device=fabric.device)
            masked = masked.scatter(1, mask.masked, True).unflatten(1, (side, side))
            hidden = masked.repeat_interleave(encoder.patch_size, 1).repeat_interleave(encoder.patch_size, 2)
            original = self._to_grey(batch.pixels)
            parts.append({
                "original": original,
                "input": torch.where(hidden, 127, original),
                "prediction": self._to_grey(painted),
                "mask": masked,
                "study": batch.row[batch.study],
                "view_kind": batch.view_kind,
            })  # fmt: skip
        objective.train()
        path.parent.mkdir(exist_ok=True)
        arrays = {name: torch.cat([part[name] for part in parts]).cpu().numpy() for name in parts[0]}
        with open_atomic(path) as file:
            np.savez_compressed(file, view_kinds=np.array(VIEW_KINDS), **arrays)

    def _iterate(self, rows: np.ndarray, device: torch.device) -> Iterator[tuple[StudyBatch, Mask]]:
        config = self._config
        encoder, data = config.encoder, config.data
        batches = iterate_studies(
            self._cache, rows,
            views_per_batch=min(NUM_VIEWS, max(1, data.views_per_step // config.optim.accumulate)),
            crop=data.shown, max_views=data.max_views, breasts=data.breasts, texts=self._texts, teachers=self._teachers,
            descriptions=self._descriptions, num_threads=1,
        )  # fmt: skip
        for batch in batches:
            if isinstance(encoder, ConvEncoderConfig):
                mask = make_no_mask(batch.num_views)
            else:
                mask = draw_masks(
                    batch, num_patches=encoder.num_patches, ratio=config.mask.ratio, sharing=config.mask.sharing,
                    seed=config.seed,
                )  # fmt: skip
            mean, std = self._cache.mean, self._cache.std
            ready = prepare(batch, size=encoder.image_size, mean=mean, std=std, device=device)
            yield ready, mask.to(device)

    def _to_grey(self, pixels: torch.Tensor) -> torch.Tensor:
        values = (pixels[:, 0].float() * self._cache.std + self._cache.mean) * 255
        return values.round().clamp(0, 255).to(torch.uint8)


def _take_first(cache: Cache, rows: Int64[np.ndarray, " study"], num_views: int) -> Int64[np.ndarray, " taken"]:
    """The first studies that together hold `num_views` views, or just over."""
    own = cache.studies["num_views"][rows]
    return rows[np.cumsum(own) - own < num_views]
