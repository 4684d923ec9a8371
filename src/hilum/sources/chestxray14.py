"""ChestX-ray14 of the NIH (Wang et al. 2017): one table of 112,120 frontal images, and the official lists of splits.

Every image is a study: the table names none, and Follow-up # is an order without days. The labels can say eleven of
the fourteen findings (label_maps/chestxray14.csv, with reasons); the others stay blank. Its own fourteen labels, which
published numbers are means of and three of which say nothing of the findings, stand beside them as the task `nih`.
"""

from __future__ import annotations

import os
from pathlib import Path

import polars as pl

from hilum.errors import UserError
from hilum.labels import FINDINGS, read_label_map
from hilum.sources.archive import (
    ADVICE,
    Reading,
    check_unique,
    find_table,
    name_kinds,
    name_labels,
    read_cells,
    read_table,
)
from hilum.sources.cells import SEXES
from hilum.wording import say_count

TABLE, TRAIN_VAL, TEST = "Data_Entry_2017*.csv", "train_val_list.txt", "test_list.txt"
_COLUMNS = ["Image Index", "Finding Labels", "Follow-up #", "Patient ID", "Patient Age"]
_SEX = ("Patient Sex", "Patient Gender")  # by release; one of them


def read(root: Path, *, own_splits: bool = False, quick: bool = False) -> Reading:
    """Read the table and the two lists below `root`.

    Images of test_list.txt are the test split. Those of train_val_list.txt get none: the archive draws no line between
    training and validation, `hilum cache` does, by patient.
    """
    reading = Reading(pl.DataFrame())
    file = find_table(root, TABLE, needed="it lists images, patients and labels")
    assert file is not None
    keys = ["Image Index", "Patient ID", "Finding Labels"]
    table = read_table(file, [*_COLUMNS, "View Position"], _SEX, filled=keys)
    sex = next((name for name in _SEX if name in table.columns), None)
    if sex is None:
        raise UserError(f"{file} has no column 'Patient Gender' or 'Patient Sex'. {ADVICE}")
    check_unique(table, ["Image Index"], file)
    cells = read_cells(table, file, age="Patient Age", sex=sex, view="View Position", follow_up="Follow-up #")
    position = cells.read_text("view").fill_null("")
    name = table["Image Index"].str.strip_chars()
    images = table.select(
        row="_row",
        study=name,
        patient="Patient ID",
        path=_place(name, root),
        position=position,
        kind=name_kinds(position),
        age=cells.read_age(),
        sex=cells.read_word("sex", SEXES, "F or M"),
        extra_follow_up=cells.read_text("follow_up"),
    ).hstack(state_findings(table["Finding Labels"], file).get_columns())
    images = images.hstack(name_labels("nih", flag_labels(table["Finding Labels"])))
    reading.images = images if own_splits else images.with_columns(split=_read_splits(images, root, reading))
    return reading


def read_meanings() -> dict[str, list[str]]:
    """Label of the archive -> findings it says; several, one or none."""
    table = read_label_map("chestxray14")
    meanings = {
        label: [finding for finding, said in zip(FINDINGS, row, strict=True) if said]
        for label, row in zip(table.decisions, table.positive, strict=True)
    }
    normal = {label: ["No Finding"] for label, decision in table.decisions.items() if decision == "normal"}
    return meanings | normal


def state_findings(labels: pl.Series, file: Path) -> pl.DataFrame:
    """1 for what a cell like "Edema|Mass" says, 0 for what it could have said, blank for what no label says."""
    meanings = read_meanings()
    words = _split(labels)
    known = words.list.eval(pl.element().is_in(list(meanings))).list.all()
    if not known.all():
        place = known.not_().arg_true()[0]
        raise UserError(
            f"{file}, row {place + 2}: column 'Finding Labels' has '{labels[place]}', expected labels of "
            f"{', '.join(meanings)}, with | between; {say_count(int((~known).sum()), 'such row')}. {ADVICE}"
        )
    sayable = {target for targets in meanings.values() for target in targets}
    stated = {
        finding: words.list.eval(
            pl.element().is_in([word for word in meanings if finding in meanings[word]])
        ).list.any()
        for finding in FINDINGS
        if finding in sayable
    }
    return pl.DataFrame(stated).cast(pl.Int8)


def flag_labels(labels: pl.Series) -> list[pl.Series]:
    """The archive's fourteen labels, each "1" where a cell like "Edema|Mass" names it and "0" elsewhere."""
    words = _split(labels)
    own = [label for label, said in read_meanings().items() if said != ["No Finding"]]
    return [words.list.contains(label).cast(pl.Int8).cast(pl.String).alias(label) for label in own]


def _split(labels: pl.Series) -> pl.Series:
    return labels.str.split("|").list.eval(pl.element().str.strip_chars())


def _read_splits(images: pl.DataFrame, root: Path, reading: Reading) -> pl.Series:
    why = "it is one of the two official lists (--own-splits draws another split)"
    lists = {wanted: _read_list(find_table(root, wanted, needed=why)) for wanted in (TRAIN_VAL, TEST)}
    both = lists[TRAIN_VAL] & lists[TEST]
    if both:
        raise UserError(f"{TRAIN_VAL} and {TEST} share {say_count(len(both), 'image')} ({min(both)}, ...). {ADVICE}")
    name = images["study"]
    _check_patients(images, lists)
    unlisted = int((~name.is_in(list(lists[TRAIN_VAL] | lists[TEST]))).sum())
    absent = len((lists[TRAIN_VAL] | lists[TEST]) - set(name))
    if unlisted:
        reading.notes.append(f"{unlisted:,} images stand in neither official list: `hilum cache` draws their split.")
    if absent:
        reading.notes.append(f"{absent:,} images of the official lists are not in the table.")
    reading.notes.append(
        f"{TEST} is the test split; studies of {TRAIN_VAL} have none, as the archive draws no line between training "
        "and validation: `hilum cache --fractions 0.9 0.1 0` draws it by patient and leaves the test split as it is."
    )
    reading.cache_settings = ("--fractions", "0.9", "0.1", "0")
    test = pl.DataFrame({"name": name}).select(pl.when(pl.col("name").is_in(list(lists[TEST]))).then(pl.lit("test")))
    return test.to_series().alias("split")


def _check_patients(images: pl.DataFrame, lists: dict[str, set[str]]) -> None:
    """Whoever stands in both lists would be trained on and tested on."""
    first = [
        images.filter(pl.col("study").is_in(list(names))).group_by("patient").agg(pl.col("study").min().alias(wanted))
        for wanted, names in lists.items()
    ]
    both = first[0].join(first[1], on="patient").sort(TRAIN_VAL)
    if len(both):
        one, other = both[TRAIN_VAL][0], both[TEST][0]
        raise UserError(
            f"{TRAIN_VAL} and {TEST} share {say_count(len(both), 'patient')}: {one} of the "
            f"former and {other} of the latter are of one person. The published lists share nobody: download both "
            "again, or let `hilum cache` draw a split by patient (--own-splits)."
        )


def _read_list(path: Path | None) -> set[str]:
    assert path is not None
    names = {line.strip() for line in path.read_text().splitlines()} - {""}
    strange = [name for name in sorted(names) if not name.lower().endswith(".png")]
    if strange or not names:
        found = f"'{strange[0][:60]}'" if strange else "nothing"
        raise UserError(f"{path} has {found}, expected one image name like 00000001_000.png in each line. {ADVICE}")
    return names


def _place(name: pl.Series, root: Path) -> pl.Series:
    """The twelve downloads unpack into images_001/images, ...; which image lies where, only the disk says."""
    folders = [*root.glob("images_*/images"), *root.glob("images_*"), root / "images"]
    homes: dict[str, str] = {}
    for folder in sorted(folders):
        if folder.is_dir():
            with os.scandir(folder) as entries:
                found = [entry.name for entry in entries if entry.name.endswith(".png")]
            homes |= dict.fromkeys(found, folder.relative_to(root).as_posix())
    return pl.Series("path", [f"{homes.get(image, 'images')}/{image}" for image in name])
