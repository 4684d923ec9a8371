"""The cache: every image of an archive as memory-mapped pixels, and what training must know of each, in numpy.

    index.json          format version, image policy, shards with size and sha256, pixel mean and std, digest
    studies.npy         one STUDY_DTYPE record per study
    views.npy           one VIEW_DTYPE record per image, the images of a study neighbours
    shard-00000.bin     pixels, one image after the other, rows first, nothing between (its .json: what made it)
    studies.parquet     the study table with sizes, content hashes, groups and splits filled in
    rejected.parquet    what could not be read, and why
    breasts.npy         of mammograms: one BREAST_DTYPE record per image
    notices.parquet     of mammograms: what is odd about files that were taken
    side/               tables derived from it (`side_table.py`)

index.json is written last: a folder without it is not a cache yet. Written by `writer.py`, read here.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool, Int64, Integer, Shaped

from hilum.checksums import hash_file
from hilum.errors import UserError
from hilum.imaging.intensity import MAMMO_CLIP
from hilum.vocabulary import SPLITS, VIEW_KINDS

if TYPE_CHECKING:
    import polars

    import hilum.config

FORMAT = 1

STUDY_DTYPE = np.dtype(
    [
        ("patient", "<i8"),  # index of the patient group: same number, same person
        ("dataset", "<i8"),  # index into the cache's list of archives
        ("split", "i1"),  # index into SPLITS; -1: none
        ("first_view", "<i8"),
        ("num_views", "<i8"),
        ("key", "<u8"),  # hash of archive and study: keys random draws, so that they outlive a rebuild
    ]
)
VIEW_DTYPE = np.dtype(
    [
        ("study", "<i8"),
        ("view_kind", "<i8"),  # index into VIEW_KINDS
        ("laterality", "<i8"),  # index into LATERALITIES
        ("height", "<i4"),
        ("width", "<i4"),
        ("shard", "<i4"),
        ("offset", "<i8"),  # byte within the shard
        ("dtype", "u1"),  # index into PIXEL_DTYPES
        ("affine", "<f4", (6,)),  # (a..f): source row = a row + b column + c, source column = d row + e column + f
        ("content_hash", "u1", (32,)),  # of the source's grey pixels before resizing
    ]
)
BREAST_DTYPE = np.dtype(
    [
        ("spacing_mm", "<f4", (2,)),  # between rows and between columns of the source; NaN where nothing says it
        ("area", "<i8"),  # of the breast, in pixels of the source; 0: it was not found, the whole frame was kept
    ]
)
PIXEL_DTYPES = (np.dtype("u1"), np.dtype("<u2"))


@dataclass(frozen=True)
class Cache:
    """An opened cache. Nothing of it is in memory but the records; pixels are mapped."""

    path: Path
    index: dict[str, Any]  # index.json
    studies: Shaped[np.ndarray, " study"]  # STUDY_DTYPE
    views: Shaped[np.ndarray, " view"]  # VIEW_DTYPE
    _shards: dict[int, np.ndarray] = field(default_factory=dict, repr=False)

    @classmethod
    def open(cls, path: Path | str) -> Cache:
        """Open a finished cache and check format and sizes (`verify` checks the bytes).

        Raises:
            UserError: no cache, an unfinished one, another format, or a missing or cut file.
        """
        path = Path(path)
        if path.is_file():
            table = path.suffix == ".parquet"
            found = "this is a study table; run `hilum cache` first" if table else "this is a file"
            raise UserError(f"{path}: {found}. Expected the folder of a cache.")
        try:
            index = json.loads((path / "index.json").read_bytes())
        except FileNotFoundError:
            found = "an unfinished cache" if (path / "settings.json").exists() else "no cache"
            raise UserError(
                f"{path}: {found} (index.json is missing). Run `hilum cache STUDIES.parquet --out {path}`; "
                "it continues where it stopped."
            ) from None
        except json.JSONDecodeError as error:
            raise UserError(f"{path / 'index.json'}: not readable as JSON ({error}). Build the cache anew.") from None
        if index.get("format") != FORMAT:
            raise UserError(
                f"{path}: cache format {index.get('format')}, this Hilum reads {FORMAT}. Build it into a new folder."
            )
        for name, about in [*index["files"].items(), *name_shards(index)]:
            size = (path / name).stat().st_size if (path / name).exists() else None
            if size != about["bytes"]:
                found = "is missing" if size is None else f"has {size} bytes"
                raise UserError(
                    f"{path / name}: {found}, index.json says {about['bytes']}. "
                    "Copy it again, or run `hilum cache` again."
                )
        studies = np.load(path / "studies.npy", allow_pickle=False)
        views = np.load(path / "views.npy", allow_pickle=False)
        assert (studies.dtype, views.dtype) == (STUDY_DTYPE, VIEW_DTYPE), "records are not of the format in index.json"
        return cls(path, index, studies, views)

    @property
    def digest(self) -> str:
        """sha256 over everything in the cache but where it lies and where it came from."""
        return self.index["digest"]

    @property
    def policy(self) -> str:
        """Id of what was done to the pixels: intensity policy, size and depth, e.g. "voi-1/short256/uint8"."""
        return self.index["policy"]

    @property
    def mean(self) -> float:
        """Mean of all pixels of the training images, 0 to 1."""
        return self.index["mean"]

    @property
    def std(self) -> float:
        """Standard deviation of all pixels of the training images, on the scale of `mean`."""
        return self.index["std"]

    @property
    def datasets(self) -> tuple[str, ...]:
        """Names of the archives, in the order `studies["dataset"]` counts them."""
        return tuple(self.index["datasets"])

    @cached_property
    def pixel_dtype(self) -> np.dtype:
        """The one type of all images of this cache."""
        return PIXEL_DTYPES[int(self.views["dtype"][0])]

    @property
    def is_of_mammograms(self) -> bool:
        """Whether a policy of mammograms made it, so that it has `breasts`."""
        return "breasts.npy" in self.index["files"]

    @property
    def turns_breasts(self) -> bool:
        """Whether images show the breast alone, black around it, with the chest wall at the left."""
        return self.is_of_mammograms and not self.policy.startswith(f"{MAMMO_CLIP}/")

    @cached_property
    def breasts(self) -> Shaped[np.ndarray, " view"]:
        """What only the files of mammograms tell, a BREAST_DTYPE record for each view.

        Raises:
            UserError: the cache was not made by a policy of mammograms.
        """
        if not self.is_of_mammograms:
            raise UserError(
                f"{self.path}: policy {self.policy} is not for mammograms. Build a cache with --policy mammo-auto-1."
            )
        return np.load(self.path / "breasts.npy", allow_pickle=False)

    def rows(self, split: str | None = None, leave_out: Sequence[str] = ()) -> Int64[np.ndarray, " study"]:
        """Rows of the studies of one split ("train", "val", "test"), or of all, but for those of archives to leave out.

        Raises:
            UserError: there is no such split or no such archive.
        """
        if split is not None and split not in SPLITS:
            raise UserError(f"Split {split!r} is not one of {', '.join(SPLITS)}.")
        kept = ~self.find_archives(leave_out)
        return np.flatnonzero(kept if split is None else kept & (self.studies["split"] == SPLITS.index(split)))

    def find_archives(self, names: Sequence[str]) -> Bool[np.ndarray, " study"]:
        """Which studies are of the archives named.

        Raises:
            UserError: an archive is not in this cache.
        """
        if unknown := sorted(set(names) - set(self.datasets)):
            raise UserError(
                f"{self.path}: there is no archive '{unknown[0]}' to leave out; it holds {', '.join(self.datasets)}."
            )
        return np.isin(np.array(self.datasets)[self.studies["dataset"]], list(names))

    def check_training_split(self, leave_out: Sequence[str] = ()) -> None:
        """Refuse a cache without a study to learn from.

        Raises:
            UserError: the training split is empty, or all of it is of archives that are left out.
        """
        if len(self.rows("train", leave_out)):
            return
        if num := len(self.rows("train")):
            raise UserError(
                f"{self.path}: all {num:,} training studies are of archives left out ({', '.join(leave_out)}): there "
                "is nothing to learn from. Leave fewer out."
            )
        raise UserError(
            f"{self.path}: no study is in the training split: there is nothing to learn from. Build the cache anew "
            "with a larger first share (--fractions), or with training studies in the column `split` of the table."
        )

    def image(self, view: int) -> Integer[np.ndarray, "height width"]:
        """The pixels of one image, mapped from the disk; read-only."""
        record = self.views[view]
        height, width, offset = int(record["height"]), int(record["width"]), int(record["offset"])
        dtype = PIXEL_DTYPES[int(record["dtype"])]
        raw = self._shard(int(record["shard"]))[offset : offset + height * width * dtype.itemsize]
        return raw.view(dtype).reshape(height, width)

    def table(self) -> polars.DataFrame:
        """The study table, row for row the studies of this cache."""
        import polars  # the steps of training do without it

        return polars.read_parquet(self.path / "studies.parquet")

    def check_policy(self, trained_on: str | None) -> None:
        """Refuse pixels made by another intensity policy than an encoder was trained on; size and depth may differ.

        Of an imported encoder the policy is not known (None), and any is taken.

        Raises:
            UserError: the part of the policies that says how stored values become grey differs.
        """
        if trained_on is None:
            return
        trained, found = trained_on.split("/")[0], self.policy.split("/")[0]
        if trained != found:
            raise UserError(
                f"{self.path}: its pixels were made by policy {found}, the encoder was trained on {trained}: its "
                f"features would mean nothing. Build the cache with `--policy {trained}`."
            )

    def check_encoder(self, encoder: hilum.config.EncoderConfig | hilum.config.ConvEncoderConfig) -> None:
        """Refuse to show an encoder images larger than were kept (silent upsampling) or views of a kind unknown to it.

        Raises:
            UserError: its image size is above the short side kept here, or it has no vector for some view's kind.
        """
        from hilum.config import ConvEncoderConfig  # not for who only opens a cache

        if isinstance(encoder, ConvEncoderConfig):  # which knows no kinds of views
            self.check_size(min(encoder.image_size), ", or show smaller images by --encoder.image-height and -width")
            return
        self.check_size(
            encoder.image_size,
            ", or pretrain with a smaller --encoder.image-size (supervised:RUN is as large as that run's)",
        )
        known = VIEW_KINDS[: encoder.num_view_kinds] if encoder.view_embedding else VIEW_KINDS
        strange = np.flatnonzero(self.views["view_kind"] >= len(known))
        if len(strange):
            kinds = ", ".join(VIEW_KINDS[kind] for kind in np.unique(self.views["view_kind"][strange]))
            name = "/".join(self.table().select("dataset", "study").row(int(self.views["study"][strange[0]])))
            raise UserError(
                f"{self.path}: {len(strange):,} views are {kinds} (the first of study {name}); this encoder knows "
                f"{', '.join(known)} only. Pretrain one with --encoder.num-view-kinds "
                f"{len(VIEW_KINDS)}, or leave these views out of the cache."
            )

    def check_size(self, size: int, otherwise: str = "") -> None:
        """Refuse to show images of `size` px a side where smaller ones were kept: that would be silent upsampling.

        Raises:
            UserError: it is above the short side kept here; `otherwise` is what else could be done.
        """
        kept = self.index["short_side"]
        if size > kept:
            larger = (
                f"a larger `--frame` ({size} or more, either way)"
                if self.is_of_mammograms
                else f"`--short-side {size}`"
            )
            raise UserError(
                f"{self.path}: images of {size} px wanted, but the cache keeps a short side of {kept} px. "
                f"Build one with {larger}{otherwise}."
            )

    def verify(self) -> list[str]:
        """Read every byte and say what differs from index.json; an empty list is a sound cache."""
        problems = []
        for name, about in [*self.index["files"].items(), *name_shards(self.index)]:
            path = self.path / name
            if not path.exists():
                problems.append(f"{name} is missing")
            elif hash_file(path) != about["sha256"]:
                problems.append(f"{name} is not what was written (sha256 differs)")
        if compute_digest(self.index) != self.digest:
            problems.append("index.json was changed (digest differs)")
        return problems

    def _shard(self, number: int) -> np.ndarray:
        if number not in self._shards:
            # A plain array over the map: slicing np.memmap objects costs more than the copy of a crop.
            self._shards[number] = np.asarray(np.memmap(self.path / name_shard(number), np.uint8, mode="r"))
        return self._shards[number]


def name_shard(number: int) -> str:
    return f"shard-{number:05d}.bin"


def name_shards(index: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """File names of an index's shards, with their bytes and sha256."""
    return [(name_shard(number), about) for number, about in enumerate(index["shards"])]


def compute_digest(index: dict[str, Any]) -> str:
    """Digest of an index: of all of it but the digest and the Parquet files' bytes (the table counts by content)."""
    counted = {key: value for key, value in index.items() if key != "digest"}
    counted["files"] = {name: about for name, about in index["files"].items() if not name.endswith(".parquet")}
    return hashlib.sha256(json.dumps(counted, sort_keys=True).encode()).hexdigest()
