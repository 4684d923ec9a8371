"""What the readers of named archives share: finding published tables, reading their columns, placing their images."""

from __future__ import annotations

import csv
import gzip
import io
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import polars as pl

from hilum.errors import UserError
from hilum.imaging.array_row import is_there
from hilum.labels import FINDINGS, LabelMap
from hilum.sources.assemble import IMAGE_SCHEMA, LISTS
from hilum.sources.catalogue import name_table
from hilum.sources.cells import Cells, classify_position
from hilum.sources.columns import SECTION_PREFIX, Column, list_columns, suggest
from hilum.sources.layout import RASTER_SUFFIXES
from hilum.study import EXTRA_PREFIX, UNDECIDED, name_label_column
from hilum.wording import say_count

NUM_SAMPLED = 256  # files looked for where looking for all takes hours
_FLAGS = {"1": "1", "1.0": "1", "true": "1", "0": "0", "0.0": "0", "false": "0"}
ADVICE = "The published table has nothing else: download it again, or give the file without changes."


@dataclass(frozen=True)
class Count:
    """A number of a download beside the published one."""

    what: str
    found: int
    published: int


def compare_counts(found: Mapping[str, int], published: Mapping[str, int]) -> list[Count]:
    """Every published number with what the tables hold; what nobody counted is 0."""
    return [Count(what, found.get(what, 0), number) for what, number in published.items()]


@dataclass
class Reading:
    """What a reader found in an archive's tables, before identifiers are replaced."""

    images: pl.DataFrame  # IMAGE_SCHEMA and section_ and extra_ columns
    rejected: list[tuple[str, str]] = field(default_factory=list)  # (path, reason)
    notes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    is_whole: bool = True  # False where a table names studies whose images are not there, and so are not in `images`
    cache_settings: tuple[str, ...] = ()  # flags that `hilum cache` needs for this archive
    counts: list[Count] = field(default_factory=list)  # that `--check` compares


def list_tables(root: Path, pattern: str) -> list[Path]:
    """Files of this name (a glob), plain or as .gz, in `root` or one folder below it."""
    if not root.is_dir():
        raise UserError(f"There is no folder {root}: give the folder of the download.")
    found = [path for depth in ("", "*/") for name in (pattern, f"{pattern}.gz") for path in root.glob(depth + name)]
    return sorted(path for path in found if path.is_file())


def find_table(root: Path, pattern: str, *, needed: str = "") -> Path | None:
    """The one table of this name; None where there is none and `needed` (what it is for) is empty.

    Of a table and its own .gz the first is taken. Raises UserError for one that is needed and missing, and for two.
    """
    found = list_tables(root, pattern)
    plain = {path.with_suffix("") if path.suffix == ".gz" else path for path in found}
    if len(plain) > 1:
        names = ", ".join(str(path.relative_to(root)) for path in found)
        raise UserError(f"{root} holds several tables {pattern}: {names}. Keep one, or give the folder of one.")
    if found:
        return found[0]
    if needed:
        release = ", or another release" if "*" in pattern else ""
        raise UserError(
            f"{root} has no {name_table(pattern)} (or .gz{release}), in it or one folder below: {needed}. Found "
            f"{_list_files(root)}. Download it into that folder, or give the folder that holds it."
        )
    return None


def _list_files(root: Path, num_named: int = 8) -> str:
    names = sorted(path.name + ("/" if path.is_dir() else "") for path in root.iterdir())
    return ", ".join(names[:num_named]) + (", ..." if len(names) > num_named else "") if names else "an empty folder"


def read_table(
    path: Path, columns: Sequence[str], optional: Sequence[str] = (), filled: Sequence[str] = ()
) -> pl.DataFrame:
    """`columns`, and those of `optional` that exist, as text, with the number of each row as `_row` (header: 1).

    `filled` names columns of which no cell may be blank. Raises UserError for a table that lacks a column, is cut off,
    has no row, or is none.
    """
    try:
        names = check_header(path, columns)
        wanted = [*columns, *(name for name in optional if name in names)]
        table = pl.read_csv(path, infer_schema=False, columns=[names.index(name) for name in wanted], encoding="utf8")
    except (pl.exceptions.PolarsError, OSError, EOFError, zlib.error, UnicodeDecodeError, csv.Error) as error:
        if isinstance(error, FileNotFoundError | PermissionError):
            raise
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        if isinstance(error, UnicodeDecodeError) or "utf-8" in reason:
            raise UserError(
                f"{path} is not UTF-8 ({reason}), which the published table is: another program saved it anew, or it "
                "is damaged. Download it again, or give the file without changes."
            ) from None
        raise UserError(f"{path} cannot be read to its end ({reason}): it may be cut off. Download it again.") from None
    table = table.select(pl.all().name.map(str.strip)).select(wanted).with_row_index("_row", offset=2)
    if table.is_empty():
        raise UserError(f"{path} has no rows, only a header: it may be cut off. Download it again.")
    _check_last_row(path, len(names))
    for name in filled:
        blank = table.filter(pl.col(name).is_null() | (pl.col(name).str.strip_chars() == ""))
        if len(blank):
            raise UserError(
                f"{path}, row {blank['_row'][0]}: column '{name}' is blank, expected a value in every row; "
                f"{say_count(len(blank), 'such row')}. The table may be cut off: download it again."
            )
    return table


def check_header(path: Path, columns: Sequence[str]) -> list[str]:
    """The table's column names, stripped. Raises UserError where one of `columns` is not among them."""
    names = [name.strip() for name in _read_header(path)]
    if not any(names):
        raise UserError(f"{path} has no header line, or nothing at all: expected a table. Download it again.")
    missing = [name for name in columns if name not in names]
    if missing:
        hint = suggest(missing[0], names)
        raise UserError(
            f"{path} has no column '{missing[0]}'"
            + (f" nor {', '.join(repr(name) for name in missing[1:6])}" if missing[1:] else "")
            + f".{hint} {list_columns(names)} Give the table as published."
        )
    return names


def _read_header(path: Path) -> list[str]:
    open_bytes = gzip.open if path.suffix == ".gz" else open
    with open_bytes(path, "rb") as content, io.TextIOWrapper(content, "utf-8-sig", newline="") as text:
        return next(csv.reader(text), [])


def _check_last_row(path: Path, num_columns: int) -> None:
    """A download that broke off within a line leaves a last row with too few cells, which polars fills up."""
    if path.suffix == ".gz":
        return  # its checksum tells
    with path.open("rb") as file:
        file.seek(0, io.SEEK_END)
        file.seek(max(0, file.tell() - 65536))
        tail = file.read().decode("utf-8", "replace")
    if tail.endswith(("\n", "\r")):
        return
    last = tail.splitlines()[-1]
    num_cells = len(next(csv.reader([last])))
    if num_cells < num_columns and '"' not in last:
        raise UserError(
            f"{path}: its last row has {num_cells} of {num_columns} cells: it is cut off. Download it again."
        )


def read_cells(table: pl.DataFrame, path: Path, **targets: str) -> Cells:
    """`table`'s columns by what they mean, to read numbers and words with errors that name the row."""
    columns = {target: Column(name, given=False) for target, name in targets.items() if name in table.columns}
    return Cells(table, columns, path.name, advice=ADVICE)


def read_findings(table: pl.DataFrame, path: Path, findings: Sequence[str]) -> list[pl.Series]:
    """The raw states of columns that bear the findings' own names."""
    named = Cells(table, {name: Column(name, given=False) for name in findings}, path.name, advice=ADVICE)
    return [named.read_label(name) for name in findings]


def read_flags(table: pl.DataFrame, path: Path, columns: Sequence[str]) -> list[pl.Series]:
    """Columns of 1, 0, True and False as "1" and "0"; a blank or NaN is null: not known, never 0."""
    cells = Cells(table, {name: Column(name, given=False) for name in columns}, path.name, advice=ADVICE)
    return [cells.read_word(name, _FLAGS, "1, 0, True, False or blank").alias(name) for name in columns]


def read_numbers(table: pl.DataFrame, path: Path, columns: Sequence[str]) -> list[pl.Series]:
    """Columns of numbers; blank and NaN are null."""
    cells = Cells(table, {name: Column(name, given=False) for name in columns}, path.name, advice=ADVICE)
    return [cells.read_number(name).alias(name) for name in columns]


def read_times(table: pl.DataFrame, path: Path, columns: Sequence[str]) -> list[pl.Series]:
    """Columns of dates with their time ("2180-05-06 22:23:00") as whole seconds from a fixed origin; blank is null.

    They are for differences within a patient, and stay behind.
    """
    read = []
    for name in columns:
        text = table[name].str.strip_chars().replace("", None)
        times = text.str.replace("T", " ").str.to_datetime("%Y-%m-%d %H:%M:%S%.f", time_unit="us", strict=False)
        wrong = text.is_not_null() & times.is_null()
        if wrong.any():  # the cell itself stays out of the message
            raise UserError(
                f"{path}, row {table['_row'][wrong.arg_true()[0]]}: column '{name}' is no time like 2180-05-06 "
                f"22:23:00; {say_count(int(wrong.sum()), 'such row')}. {ADVICE}"
            )
        read.append((times.dt.epoch("us") // 1_000_000).alias(name))
    return read


def name_labels(group: str, flags: Sequence[pl.Series], names: Mapping[str, str] | None = None) -> list[pl.Series]:
    """Flags as columns extra_GROUP:LABEL; `names` says where a label is called otherwise than its column."""
    return [flag.alias(name_label_column(group, (names or {}).get(flag.name, flag.name))) for flag in flags]


def list_images(root: Path, folder: Path) -> list[str]:
    """Paths from `root` of the raster images directly in a folder, sorted."""
    found = [path for path in folder.iterdir() if path.suffix.lower() in RASTER_SUFFIXES]
    return sorted(path.relative_to(root).as_posix() for path in found)


def find_folder(root: Path, name: str, depth: int = 3) -> Path | None:
    """The folder of that name (it may have several parts), in `root` or up to `depth` folders below it."""
    if not root.is_dir():
        raise UserError(f"There is no folder {root}: give the folder of the download.")
    found = (path for level in range(depth + 1) for path in sorted(root.glob("*/" * level + name)) if path.is_dir())
    return next(found, None)


def state_cells(cells: pl.Series, split: Callable[[str], list[str]], table: LabelMap) -> pl.DataFrame:
    """Raw states of findings, and what stays unknown, by a map; `split` makes a cell of labels their list."""
    distinct = cells.unique(maintain_order=True)
    labels = [[] if cell is None else split(cell) for cell in distinct]
    states = table.map_rows(labels)
    names = np.array(FINDINGS)
    unknown = [";".join(names[row]) or None for row in table.find_undecided(labels, states)]
    columns = {finding: states[:, place] for place, finding in enumerate(FINDINGS)}
    mapped = pl.DataFrame({"_cell": distinct, **columns, UNDECIDED: pl.Series(unknown, dtype=pl.String)})
    mapped = mapped.with_columns(pl.col(FINDINGS).fill_nan(None).cast(pl.Int8))
    rows = pl.DataFrame({"_cell": cells})
    return rows.join(mapped, on="_cell", how="left", nulls_equal=True, maintain_order="left").drop("_cell")


def describe_undecided(images: pl.DataFrame) -> str:
    """A note on the studies whose blanks are no negatives."""
    said = images.unique("study")[UNDECIDED].drop_nulls()
    all_of_them = int((said == ";".join(FINDINGS)).sum())
    return (
        f"Of {all_of_them:,} studies nothing is known (no label, or one that calls them unreadable), and of "
        f"{len(said) - all_of_them:,} more the labels leave No Finding open: these are unknown, never negative."
    )


def check_unique(table: pl.DataFrame, keys: Sequence[str], path: Path) -> None:
    """One row for each key, as a join needs it."""
    doubled = table.filter(pl.struct(keys).is_duplicated())
    if len(doubled):
        first = ", ".join(str(doubled[key][0]) for key in keys)
        raise UserError(
            f"{path}: {', '.join(keys)} {first} stands in several rows ({len(doubled):,} such rows). {ADVICE}"
        )


def name_kinds(positions: pl.Series) -> pl.Series:
    """The view kinds that an archive's words for a projection mean."""
    named = {position: classify_position(position) for position in positions.unique()}
    return positions.replace_strict(named, return_dtype=pl.String)


def sample(items: Sequence[str] | pl.Series, num: int = NUM_SAMPLED) -> list[str]:
    """At most `num` items spread over the whole, the same every time."""
    places = dict.fromkeys(place * len(items) // num for place in range(num)) if len(items) > num else range(len(items))
    return [items[place] for place in places]


def choose_paths(root: Path, layouts: Sequence[pl.Series]) -> pl.Series:
    """Of several lists of paths, one for each way the download may be unpacked, that whose files exist.

    A sample decides; where nothing exists, the first: as the archive is published.
    """
    counts = [sum(is_there(root / path) for path in sample(paths.drop_nulls())) for paths in layouts]
    best = max(range(len(layouts)), key=lambda place: counts[place])
    return layouts[best]


def complete_images(frame: pl.DataFrame, dataset: str) -> pl.DataFrame:
    """`frame` with all columns of IMAGE_SCHEMA: what it leaves out is blank, laterality and kind are unknown."""
    defaults = {"dataset": dataset, "laterality": "unknown", "kind": "unknown", "position": ""}
    frame = frame.with_columns(
        pl.lit(defaults.get(name), dtype=kind).alias(name)
        for name, kind in IMAGE_SCHEMA.items()
        if name not in frame.columns
    )
    further = [name for name in frame.columns if name.startswith((SECTION_PREFIX, EXTRA_PREFIX)) or name in LISTS]
    return frame.select(*(pl.col(name).cast(kind) for name, kind in IMAGE_SCHEMA.items()), *further)


def describe_presence(root: Path, paths: pl.Series) -> tuple[int, int]:
    """How many of a sample of these files exist, and the size of the sample."""
    sampled = sample(paths)
    return sum(is_there(root / path) for path in sampled), len(sampled)
