"""A segmentation under way: what is trained, what a step is, what comes out; trained by `supervised_training.py`."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from hilum.cache import Cache
from hilum.evaluate.supervised_training import Best, Taken, Training, count_parts
from hilum.keyed_random import draw_order, draw_uniform, make_keys
from hilum.model.image_encoder import ImageEncoder
from hilum.model.segmentation import AnyDecoder, build_decoder
from hilum.training.launch import choose_precision

from .frozen_layers import FrozenLayers, Screen, Shown, change, show_plainly
from .loss import measure_mask_loss
from .masks import MaskTable
from .metrics import count_areas
from .scores import MaskScores, average_dice, score_masks
from .settings import Augmentation, SegmentationSettings

FLIP, TURN = 0.5, 10.0  # probability; degrees to either side (P 3.5)
SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class Segmented:
    """A trained decoder (its best epoch), how validation went, and what it drew of the test views."""

    encoder: str
    decoder: AnyDecoder
    trained_encoder: ImageEncoder | None  # where it was trained too
    weights_before: str  # hash of the encoder it started from
    structures: tuple[str, ...]
    history: list[dict[str, int | float]]  # one entry an epoch: epoch from 1, loss, val_dice, seconds
    best_epoch: int  # from 1
    settings: dict[str, Any]
    counts: dict[str, int]  # views and patients of each split
    masks: str  # hash of the masks and their splits
    seed: int
    test: MaskScores


class Segmenting:
    """The state of a segmentation.

    Args:
        mean, std: normalisation of the encoder's pixels.
        progress: show a bar while tokens are computed.

    Attributes:
        training: its decoder, with the encoder where that learns too, and how far it has come.
    """

    def __init__(
        self,
        cache: Cache,
        encoder: ImageEncoder,
        masks: MaskTable,
        settings: SegmentationSettings,
        *,
        mean: float,
        std: float,
        progress: bool,
    ) -> None:
        """Seeds torch's generator, as every step does: the caller keeps its own."""
        self.masks, self.settings = masks, settings
        self.rows = {split: masks.rows(split) for split in SPLITS}
        self.per_epoch = math.ceil(len(self.rows["train"]) / settings.views_per_step)
        torch.manual_seed(settings.seed)
        encoder = copy.deepcopy(encoder) if settings.train_encoder else encoder
        self.head = build_decoder(settings.decoder, encoder, len(masks.structures))
        self.screen = Screen(
            cache, encoder, mean, std, masks.crop, choose_precision(settings.precision), self.head.num_layers
        )
        self.head.to(self.screen.device)
        parts: dict[str, nn.Module] = {"decoder": self.head}
        learned = nn.ModuleDict(parts | ({"encoder": encoder} if settings.train_encoder else {}))
        self.layers = {} if settings.train_encoder else {split: self._freeze(split, progress) for split in SPLITS}
        self.best = Best()
        self.training = Training(
            learned,
            torch.optim.AdamW(_group(learned, settings), lr=settings.lr),
            self.best,
            num_steps=settings.epochs * self.per_epoch,
            lr=settings.lr,
            seed=settings.seed,
            precision=self.screen.precision,
        )

    def _freeze(self, split: str, progress: bool) -> FrozenLayers:
        """A split's tokens; views that are turned in training are not kept, for each is shown once."""
        augment = self.settings.augment if split == "train" else "none"
        return FrozenLayers(
            self.screen,
            self.masks.view_row[self.rows[split]],
            mirrored=augment == "flip",
            limit=0 if augment == "flip-turn" else self.settings.token_limit,
            title=f"{split} tokens" if progress else None,
        )

    def iterate(self) -> Iterator[Int64[np.ndarray, " view"]]:
        """Rows of the mask table that the steps that are left see; in an epoch each training view once."""
        rows, at_once = self.rows["train"], self.settings.views_per_step
        for step in range(self.training.num_done, self.training.num_steps):
            epoch, place = divmod(step, self.per_epoch)
            order = draw_order("segmentation order", self.settings.seed, epoch, num=len(rows))
            yield rows[order[place * at_once : (place + 1) * at_once]]

    def take_step(self, rows: Int64[np.ndarray, " view"]) -> Taken:
        """One step of the optimiser.

        Raises:
            UserError: the loss or its gradient is not finite; the weights are those before the step.
        """
        settings, epoch = self.settings, self.training.num_done // self.per_epoch
        shown = draw_shown(self.masks.view_row[rows], settings.augment, settings.seed, epoch)
        self.training.prepare_step("segmentation step", warmup=settings.warmup)
        logit = self._draw("train", shown)
        target = change(torch.from_numpy(self.masks.mask[rows]).to(logit), shown) > 0.5
        known = torch.from_numpy(self.masks.known[rows]).to(logit.device)
        loss = measure_mask_loss(logit, target, known).mean
        return Taken(self.training.descend(loss), len(rows), 0.0)

    def is_validation_due(self) -> bool:
        """Whether an epoch has just ended."""
        return self.training.num_done % self.per_epoch == 0

    def validate(self) -> str:
        """Weigh the epoch that has just ended, and return what to say of it."""
        training, rows = self.training, self.rows["val"]
        epoch = training.num_done // self.per_epoch  # from 1
        none = np.zeros(self.masks.known[rows].shape)  # distances are for the test views alone
        value = average_dice(
            MaskScores(
                structures=self.masks.structures,
                areas=count_areas(self._draw_masks("val"), self.masks.mask[rows]),
                surface_distance=none,
                hausdorff_95=none,
                known=self.masks.known[rows],
                patient=self.masks.patient[rows],
                view_row=self.masks.view_row[rows],
            )
        )
        self.best.offer(value, epoch, training.model.state_dict)
        loss = training.note_validation(epoch, "val_dice", value)
        return f"epoch {epoch}/{self.settings.epochs}  loss {loss:.4f}  validation Dice {value:.4f}"

    def finish(self, name: str, weights_before: str) -> Segmented:
        """The decoder of the best epoch, and its test masks; `name` is the encoder's, `weights_before` its hash."""
        self.training.model.load_state_dict(self.best.weights)
        masks, rows = self.masks, self.rows["test"]
        return Segmented(
            encoder=name,
            decoder=self.head.eval(),
            trained_encoder=self.screen.encoder.eval() if self.settings.train_encoder else None,
            weights_before=weights_before,
            structures=masks.structures,
            history=self.training.history,
            best_epoch=self.best.epoch,
            settings=self.settings.describe()
            | {
                "decoder_parameters": sum(parameter.numel() for parameter in self.head.parameters()),
                "precision": self.screen.precision,
                "crop": masks.crop.mode,
                "image_size": masks.size,
            },
            counts=count_parts(self.rows, masks.patient, "views"),
            masks=masks.hash(),
            seed=self.settings.seed,
            test=score_masks(
                self._draw_masks("test"),
                masks.mask[rows],
                masks.known[rows],
                structures=masks.structures,
                patient=masks.patient[rows],
                view_row=masks.view_row[rows],
                spacing=self.settings.spacing,
            ),
        )

    def _draw(self, split: str, shown: Shown) -> Float[Tensor, "view structure size size"]:
        """Logits of views, in 32 bit."""
        layers = self.layers[split].read(shown) if self.layers else self.screen.encode(shown)
        half = self.screen.precision == "bf16-mixed"
        with torch.autocast(self.screen.device.type, torch.bfloat16, enabled=half):
            return self.head(layers).float()

    @torch.no_grad()
    def _draw_masks(self, split: str) -> Bool[np.ndarray, "view structure size size"]:
        """Masks of a split's views as they are: set where the probability is one half or more."""
        self.training.model.eval()
        rows, at_once, drawn = self.rows[split], self.settings.views_per_step, []
        for first in range(0, len(rows), at_once):
            shown = show_plainly(self.masks.view_row[rows[first : first + at_once]])
            drawn.append((self._draw(split, shown) >= 0).cpu().numpy())
        return np.concatenate(drawn)


def draw_shown(view_row: Int64[np.ndarray, " view"], augment: Augmentation, seed: int, epoch: int) -> Shown:
    """How training views are shown: keyed by view and epoch, the same in any batch."""
    if augment == "none":
        return show_plainly(view_row)
    chance = draw_uniform(make_keys("segmentation change", seed, epoch, view_row), 2).astype(np.float64)
    degrees = (2 * chance[:, 1] - 1) * TURN if augment == "flip-turn" else np.zeros(len(view_row))
    return Shown(view_row, chance[:, 0] < FLIP, degrees)


def _group(learned: nn.ModuleDict, settings: SegmentationSettings) -> list[dict[str, Any]]:
    """AdamW groups with a `scale` of the learning rate; matrices decay, vectors do not."""
    groups: dict[tuple[str, bool], dict[str, Any]] = {}
    for name, parameter in learned.named_parameters():
        part, decays = name.partition(".")[0], parameter.ndim > 1 and name.endswith(".weight")
        scale = settings.encoder_rate if part == "encoder" else 1.0
        group = {"params": [], "scale": scale, "weight_decay": decays * settings.weight_decay}
        groups.setdefault((part, decays), group)["params"].append(parameter)
    return list(groups.values())
