"""Who goes where: groups of patients that are one person, and splits that never part a group.

A group is what any evidence joins: the same pixels under two patient ids, a study id with two patient ids, a file
listed twice, a group the archive names itself. Real archives have all of them; each leaks if only patient ids count.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from math import ceil
from typing import Literal

import numpy as np
import polars as pl
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from hilum.errors import UserError
from hilum.identifiers import hash_identifiers, hash_to_unit
from hilum.study import SPLITS, name_studies
from hilum.wording import say_count

SplitRule = Literal["threshold", "rank"]
DEFAULT_FRACTIONS = {"train": 0.8, "val": 0.1, "test": 0.1}
DEFAULT_SALT = "hilum"  # of the order of patients; not the secret salt of identifiers
# The test patients come first in hashed order, so that another share of validation leaves them where they are.
_ORDER = ("test", "val", "train")


def group_patients(frame: pl.DataFrame, links: Iterable[tuple[str, str]] = ()) -> pl.DataFrame:
    """The table with `group` set anew: patients joined by shared pixels (`content_hash`, where filled), a shared file,
    a study id listed under both, a `group` they already share, or `links` (pairs of patients known to be one).

    The id of a group is its smallest id, so it stays when unrelated patients are added. `list_joined` shows who was
    joined: one large group is most often one blank image under many patients.
    """
    views = _explode_views(frame)
    clues = [
        frame.select("patient", clue=pl.struct(kind=pl.lit("study"), a="dataset", b="study").hash()),
        views.select("patient", clue=pl.struct(kind=pl.lit("file"), a="root", b="path").hash()),
        views.filter(pl.col("content_hash").is_not_null()).select(
            "patient", clue=pl.struct(kind=pl.lit("pixels"), a="content_hash", b="content_hash").hash()
        ),
    ]
    clues = pl.concat(clues).unique()
    # Only what two patients share joins anybody; a patient's first sharer stands for the clue.
    shared = clues.filter(pl.col("clue").is_duplicated()).sort("patient")
    edges = pl.concat(
        [
            frame.select(one="patient", other="group"),
            shared.select(one="patient", other=pl.col("patient").first().over("clue")),
            pl.DataFrame(list(links), schema={"one": pl.String, "other": pl.String}, orient="row"),
        ]
    ).unique()
    names = pl.concat([edges["one"], edges["other"]]).unique().sort()
    place = pl.DataFrame({"name": names, "place": np.arange(len(names))})
    ends = [
        edges.select(name=end).join(place, on="name", how="left", maintain_order="left")["place"].to_numpy()
        for end in ("one", "other")
    ]
    graph = coo_array((np.ones(len(edges), dtype=np.int8), tuple(ends)), shape=(len(names), len(names)))
    component = connected_components(graph, directed=False)[1]
    smallest = place.with_columns(component=component).select(
        patient="name", group=pl.col("name").min().over("component")
    )
    return frame.drop("group").join(smallest, on="patient", how="left", maintain_order="left").select(frame.columns)


def list_joined(frame: pl.DataFrame) -> pl.DataFrame:
    """Groups of more than one patient: group, patients (list), num_studies; the largest first."""
    joined = frame.group_by("group").agg(
        pl.col("patient").unique().sort().alias("patients"), pl.len().alias("num_studies")
    )
    return joined.filter(pl.col("patients").list.len() > 1).sort(-pl.col("patients").list.len().cast(pl.Int64), "group")


def split_by_threshold(
    groups: Iterable[str], fractions: Mapping[str, float], salt: str = DEFAULT_SALT
) -> dict[str, str]:
    """group -> split by its own salted hash against the cumulative fractions: nobody else's presence matters."""
    shares = _check_fractions(fractions)
    bounds = np.cumsum([float(shares[split]) for split in _ORDER])[:-1]
    place = hash_to_unit(groups, salt)
    drawn = np.searchsorted(bounds, list(place.values()), side="right")
    return {group: _ORDER[split] for group, split in zip(place, drawn.tolist(), strict=True)}


def split_by_rank(groups: Mapping[str, int], counts: Mapping[str, int], salt: str = DEFAULT_SALT) -> dict[str, str]:
    """group -> split with exact `counts` of patients; `groups` says how many patients each group has.

    Groups are taken in the order of their salted hashes; one that is larger than what a split still lacks goes to the
    next split, so the counts hold exactly as long as single patients are left to fill up with.
    """
    if sum(counts.values()) != sum(groups.values()):
        raise UserError(
            f"The splits ask for {sum(counts.values()):,} patients, the table has {sum(groups.values()):,}."
        )
    lacking = {split: counts.get(split, 0) for split in _ORDER}
    assigned = {}
    for _, group in sorted((place, group) for group, place in hash_to_unit(groups, salt).items()):
        size = groups[group]
        split = next((name for name in _ORDER if size <= lacking[name]), max(lacking, key=lambda name: lacking[name]))
        lacking[split] -= size
        assigned[group] = split
    return assigned


def count_by_fraction(num_patients: int, fractions: Mapping[str, float]) -> dict[str, int]:
    """Exact patients per split: test rounded up, validation down (but never to nobody), training the rest.

    This is the rule behind MVMAE's PadChest split: 97/1.5/1.5 % of 67,625 gives 65,596, 1,014 and 1,015.
    """
    shares = _check_fractions(fractions)
    test = ceil(shares["test"] * num_patients)
    val = min(max(int(shares["val"] * num_patients), ceil(shares["val"])), num_patients - test)
    return {"train": num_patients - test - val, "val": val, "test": test}


def _check_fractions(fractions: Mapping[str, float]) -> dict[str, Fraction]:
    unknown = set(fractions) - set(SPLITS)
    if unknown:
        raise UserError(f"There is no split {', '.join(sorted(unknown))}: the splits are {', '.join(SPLITS)}.")
    # By way of its decimal digits: 0.015 means 15 in 1,000, which no binary float is.
    exact = {split: Fraction(str(fractions.get(split, 0))) for split in SPLITS}
    if min(exact.values()) < 0 or abs(sum(exact.values()) - 1) > Fraction(1, 10**6):
        shares = ", ".join(f"{split} {float(share):g}" for split, share in exact.items())
        raise UserError(f"Split fractions must be positive and add up to 1, found {shares}.")
    return exact


def assign_splits(
    frame: pl.DataFrame,
    rule: SplitRule = "threshold",
    fractions: Mapping[str, float] | None = None,
    salt: str = DEFAULT_SALT,
    keep_existing: bool = True,
) -> pl.DataFrame:
    """The table with every `split` set, whole groups at a time.

    Splits that the table has (an archive's official lists) stay unless `keep_existing` is off: a group with one keeps
    it for all its studies, and a group in two of them is an error. The rule places the rest; `rank` counts the rest.
    """
    fractions = DEFAULT_FRACTIONS if fractions is None else fractions
    if keep_existing:
        check_no_overlap(frame)
        official = dict(frame.filter(pl.col("split").is_not_null()).select("group", "split").unique().iter_rows())
    else:
        official = {}
    sizes = dict(frame.group_by("group").agg(pl.col("patient").n_unique()).sort("group").iter_rows())
    open_groups = {group: size for group, size in sizes.items() if group not in official}
    if rule == "threshold":
        assigned = split_by_threshold(open_groups, fractions, salt)
    else:
        assigned = split_by_rank(open_groups, count_by_fraction(sum(open_groups.values()), fractions), salt)
    return frame.with_columns(
        pl.col("group").replace_strict({**assigned, **official}, return_dtype=pl.String).alias("split")
    )


def list_moved(old: pl.DataFrame, new: pl.DataFrame) -> pl.DataFrame:
    """Patients whose split differs between two versions of a table, with the old and the new split and group.

    Under the threshold rule they are patients newly joined into one group, and nobody else.
    """
    before, after = (
        table.group_by("dataset", "patient").agg(
            pl.col("split").first().alias(f"{version}_split"), pl.col("group").first().alias(f"{version}_group")
        )
        for version, table in (("old", old), ("new", new))
    )
    both = before.join(after, on=["dataset", "patient"]).filter(pl.col("old_split").ne_missing(pl.col("new_split")))
    return both.select("dataset", "patient", "old_split", "new_split", "old_group", "new_group").sort(
        "dataset", "patient"
    )


@dataclass(frozen=True)
class Fingerprint:
    """What must not appear on both sides of a split: people (patient and group ids) and pixels (content hashes).

    Ids are hashed with a salt that stands beside them, so that any other table can be held against them whatever is
    known of its ids: it hashes its own with the same salt. Patients count as well as groups, because a group takes
    another name when a smaller id joins it, and because another archive knows nothing of the joins of this one.
    """

    people: Mapping[str, frozenset[str]]  # salt -> ids hashed with it
    pixels: frozenset[str]


def fingerprint_studies(frame: pl.DataFrame, salt: str = DEFAULT_SALT) -> Fingerprint:
    """The people and pixels of a study table, for a comparison with other tables."""
    people = hash_identifiers(_list_people(frame), "person", salt)
    return Fingerprint({salt: frozenset(people.values())}, _list_pixels(frame))


def find_shared(seen: Fingerprint, frame: pl.DataFrame) -> tuple[frozenset[str], frozenset[str]]:
    """The ids (of patients and groups) and the content hashes of a study table that a fingerprint holds."""
    people = _list_people(frame)
    shared = {
        name
        for salt, hashes in seen.people.items()
        for name, hashed in hash_identifiers(people, "person", salt).items()
        if hashed in hashes
    }
    return frozenset(shared), seen.pixels & _list_pixels(frame)


def _list_people(frame: pl.DataFrame) -> frozenset[str]:
    return frozenset(frame["group"]) | frozenset(frame["patient"])


def _list_pixels(frame: pl.DataFrame) -> frozenset[str]:
    return frozenset(_explode_views(frame)["content_hash"].drop_nulls())


def check_no_overlap(parts: pl.DataFrame | Mapping[str, pl.DataFrame]) -> None:
    """Raise a UserError if two parts share a person or an image: splits of one table, or named tables of any archives.

    Example: `check_no_overlap({"pretraining": one, "test": other})`.
    """
    if isinstance(parts, pl.DataFrame):
        parts = {str(split): rows for (split,), rows in parts.filter(pl.col("split").is_not_null()).group_by("split")}
    names = sorted(parts, key=lambda name: (SPLITS.index(name) if name in SPLITS else -1, name))
    found = []
    for place, one in enumerate(names[:-1]):
        seen = fingerprint_studies(parts[one])
        for other in names[place + 1 :]:
            people, pixels = find_shared(seen, parts[other])
            if people:
                where = name_studies(select_people(parts[other], people))
                found.append(f"{_name_first(people, 'patient')} in both {one} and {other}: {where}")
            elif pixels:
                found.append(f"{_name_first(pixels, 'image')} (same pixels) in both {one} and {other}")
    if found:
        raise UserError(
            f"Leak: {'; '.join(found)}. A patient belongs to one side: give them one `group`, or leave one side out."
        )


def select_people(frame: pl.DataFrame, people: Collection[str]) -> pl.DataFrame:
    """The studies of these patients and groups."""
    return frame.filter(pl.col("group").is_in(list(people)) | pl.col("patient").is_in(list(people)))


def _name_first(names: Collection[str], noun: str, num_named: int = 3) -> str:
    first = ", ".join(sorted(names)[:num_named]) + (", ..." if len(names) > num_named else "")
    return f"{say_count(len(names), noun)} ({first})"


def _explode_views(frame: pl.DataFrame) -> pl.DataFrame:
    rows = frame.filter(pl.col("views").list.len() > 0).select("patient", "root", "views")
    return rows.explode("views").unnest("views")
