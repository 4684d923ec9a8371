"""What was measured around an admission: as-of joins of a patient's images, ECGs and laboratory values by time.

The rule is Symile-MIMIC's (P 4.1): of the images of an admission's patient the earliest that is more than 24 and at
most 72 hours after admission, of the ECGs and of each laboratory test the earliest within 24 hours before or after it.
Events belong to patients, not to admissions: laboratory values of the emergency room have no admission yet.

Times are whole seconds from any origin, the same for all events of a patient, so that edges are exact. Frames have a
column `patient`, and

    admissions   admission, second
    events       event (an id; of two at the same second the smaller counts), second, and whatever else is to be kept
"""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

HOUR = 3600  # seconds


@dataclass(frozen=True)
class Window:
    """Hours after admission within which an event counts: from `first` to `last`, ends included unless `after`."""

    first: float
    last: float
    after: bool = False  # only what is later than `first`


@dataclass(frozen=True)
class Windows:
    """The windows of the three modalities."""

    image: Window = Window(24.0, 72.0, after=True)
    ecg: Window = Window(-24.0, 24.0)
    labs: Window = Window(-24.0, 24.0)


def find_first(
    admissions: pl.DataFrame, events: pl.DataFrame, window: Window, each: tuple[str, ...] = ()
) -> pl.DataFrame:
    """For each admission the earliest event of its patient in the window, and for each value of the columns `each`.

    Returns:
        admission, `each`, the event's columns, and `hour`: its hours after admission. No row where there is none.

    Example: admission at hour 10, events at hours 34, 34.5 and 83 in the window of images: 34 is 24 hours after, which
    is not later than 24, so that it is 34.5; without that event there is none.
    """
    keys = ["patient", *each]
    # Of several at one second the smallest id alone is offered, so that the order of rows has no say.
    offered = events.sort("second", "event").unique([*keys, "second"], keep="first", maintain_order=True)
    asked = admissions.select("patient", "admission", admitted="second")
    if each:
        asked = asked.join(events.select(keys).unique(), on="patient")
    asked = asked.with_columns(second=pl.col("admitted") + round(window.first * HOUR)).sort("second")
    found = asked.join_asof(
        offered.with_columns(event_second="second"),
        on="second",
        by=keys,
        strategy="forward",
        allow_exact_matches=not window.after,
        check_sortedness=False,  # both are sorted by second, which polars cannot see within groups
    )
    hour = (pl.col("event_second") - pl.col("admitted")) / HOUR
    found = found.filter(pl.col("event").is_not_null() & (hour <= window.last)).with_columns(hour=hour)
    kept = [name for name in events.columns if name not in (*keys, "second")]
    return found.select("patient", "admission", *each, *kept, "hour").sort("admission", *each)


def build_triples(
    admissions: pl.DataFrame,
    images: pl.DataFrame,
    ecgs: pl.DataFrame,
    labs: pl.DataFrame,
    windows: Windows = Windows(),
) -> pl.DataFrame:
    """Admissions with an image, an ECG and at least one laboratory value in their windows.

    Args:
        admissions: patient, admission, second.
        images, ecgs: patient, event, second; `images` and whatever else is to be kept of an image.
        labs: patient, event, second, item, value, unit. A blank value is no value.

    Returns:
        One row per admission, in their order: admission, the image's columns and image_hour, ecg, ecg_hour, and labs
        (list of item, value, unit, hour; by item). Hours count from admission.
    """
    image = find_first(admissions, images, windows.image).rename({"event": "image", "hour": "image_hour"})
    ecg = find_first(admissions, ecgs, windows.ecg).select("admission", ecg="event", ecg_hour="hour")
    both = admissions.join(image, on="admission", how="semi").join(ecg, on="admission", how="semi")
    valued = labs.filter(pl.col("value").is_not_null() & pl.col("value").is_not_nan())
    valued = valued.join(both, on="patient", how="semi")
    value = find_first(both, valued, windows.labs, each=("item",))
    lists = value.group_by("admission").agg(pl.struct("item", "value", "unit", "hour").sort_by("item").alias("labs"))
    joined = admissions.select("admission").join(image, on="admission", maintain_order="left")
    return joined.join(ecg, on="admission", maintain_order="left").join(lists, on="admission", maintain_order="left")


def give_images(stays: pl.DataFrame, images: pl.DataFrame) -> pl.DataFrame:
    """For each stay the earliest image of its patient between `begin` and `end` (seconds, both included) that no
    earlier stay took; a stay is earlier by its begin, then by its name. Stays without an image have no row.

    Args:
        stays: patient, stay, begin, end.
        images: patient, event, second, and whatever else is to be kept.
    """
    pairs = stays.join(images, on="patient").filter(pl.col("second").is_between("begin", "end"))
    order = pairs.sort("begin", "stay", "second", "event")
    taken: set[str] = set()
    given: dict[str, str] = {}
    for stay, event in order.select("stay", "event").iter_rows():
        if stay not in given and event not in taken:
            given[stay] = event
            taken.add(event)
    chosen = pl.DataFrame({"stay": list(given), "event": list(given.values())}, order.select("stay", "event").schema)
    return order.join(chosen, on=["stay", "event"], how="semi")
