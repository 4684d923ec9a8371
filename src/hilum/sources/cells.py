"""The cells of a user's table: text to numbers and words of the study table, or an error with its row."""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping, Sequence

import polars as pl

from hilum.errors import UserError
from hilum.imaging.view import classify_view
from hilum.sources.columns import Column
from hilum.vocabulary import ViewKind
from hilum.wording import say_count

# What archives and pandas write for "not known", next to the empty cell.
BLANKS = ("", "nan", "?", "na", "n/a", "none", "null", "unknown", "not available")
LABELS = {"1": 1, "1.0": 1, "0": 0, "0.0": 0, "-0.0": 0, "-1": -1, "-1.0": -1}
ANSWERS = {"yes": 1, "true": 1, "no": 0, "false": 0}  # of people and of pandas, not of published tables
SEXES = {"f": "F", "female": "F", "m": "M", "male": "M"} | dict.fromkeys(("o", "other", "u", "x"))
SPLIT_NAMES = {"train": "train", "training": "train", "test": "test", "testing": "test"}
SPLIT_NAMES |= dict.fromkeys(("val", "valid", "validate", "validation", "dev"), "val")
KINDS = {"f": "frontal", "l": "lateral", "u": "unknown", "other": "unknown"}
KINDS |= {name: name for name in ("frontal", "lateral", "cc", "mlo")}
LATERALITIES = {"l": "left", "r": "right", "b": "both", "bilateral": "both"}
LATERALITIES |= {name: name for name in ("left", "right", "both")}
AGE_UNITS = {"y": 1.0, "m": 1 / 12, "w": 7 / 365.25, "d": 1 / 365.25}  # DICOM writes 054Y, 006M
DAYS_A_YEAR = 365.25
DATE_FORMATS = ("%Y%m%d", "%Y-%m-%d", "%Y/%m/%d")


# What people write for the two views of a chest, besides what DICOM and MIMIC do (`imaging.view.classify_view`). L is
# PadChest's lateral; in the header of a DICOM file it would be a side.
_SAID_OF_VIEWS = ("VIEW", "VIEWS", "PROJECTION", "POSITION", "CHEST", "THORAX", "CXR", "XRAY", "OF", "THE")
_FRONTALS = ("F", "FRONT", "P A", "A P", "POSTEROANTERIOR", "ANTEROPOSTERIOR", "POSTERO ANTERIOR", "ANTERO POSTERIOR")
_LATERALS = ("L", "LAT", "LLAT", "RLAT", "LLATERAL", "RLATERAL", "LL LATERAL", "RL LATERAL", "SIDE", "PROFILE")
_LATERALS += tuple(f"{side} {name}" for side in ("L", "R", "LEFT", "RIGHT") for name in ("LAT", "LATERAL"))


def classify_position(position: str) -> ViewKind:
    """The view kind that a cell of a view column, or a folder's or file's name in a layout, means.

    Besides DICOM's positions the usual words ("L", "LAT", "lateral view", "PA chest"); two views at once are unknown.
    """
    words = [word for word in re.split(r"[^A-Z0-9]+", position.upper()) if word]
    said = " ".join(word for word in words if word not in _SAID_OF_VIEWS)
    if said in _LATERALS:
        return "lateral"
    return "frontal" if said in _FRONTALS else classify_view(said)


class Cells:
    """Columns of a table of text (or lists of text) by what they mean; `table` has its row numbers as `_row`.

    `decimal_comma`: 60,5 is a number, as where semicolons stand between the cells. `advice`: what to do about a cell
    that means nothing, where leaving the column out is no way.
    """

    def __init__(
        self,
        table: pl.DataFrame,
        columns: Mapping[str, Column],
        source: str,
        *,
        decimal_comma: bool = False,
        advice: str = "",
    ) -> None:
        self.table, self.columns, self.source, self._decimal_comma = table, columns, source, decimal_comma
        self._advice = advice
        self.rows = table["_row"].cast(pl.Int64)

    def read_text(self, target: str, blanks: Sequence[str] = BLANKS) -> pl.Series:
        """The cells, stripped; blank ones and those of an absent column are null."""
        if target not in self.columns:
            return pl.Series(target, [None], dtype=pl.String).new_from_index(0, len(self.table))
        cells = self.table[self.columns[target].name]
        if cells.dtype == pl.List:
            raise UserError(f"{self.source}: column '{cells.name}' holds lists, expected one {target} in each row.")
        cells = cells.str.strip_chars()
        return cells.set(cells.str.to_lowercase().is_in(list(blanks)), None).alias(target)

    def read_word(self, target: str, words: Mapping[str, str | None], expected: str) -> pl.Series:
        """The cells by a vocabulary of lower-case words."""
        text = self.read_text(target)
        lower = text.str.to_lowercase()
        self._refuse(target, text, text.is_not_null() & ~lower.is_in(list(words)), expected)
        return lower.replace_strict(words, default=None, return_dtype=pl.String)

    def read_label(self, finding: str, words: Mapping[str, int] | None = None) -> pl.Series:
        """1, 0, -1 or null; `words` mean one of them too, in any case."""
        text = self.read_text(finding, blanks=("", "nan"))
        known = LABELS | dict(words or {})
        state = self._with_points(text).str.to_lowercase()
        wrong = text.is_not_null() & ~state.is_in(list(known))
        self._refuse(finding, text, wrong, "1 (present), 0 (absent), -1 (uncertain) or blank (not mentioned)")
        return state.replace_strict(known, default=None, return_dtype=pl.Int8)

    def read_number(self, target: str) -> pl.Series:
        """Numbers; those that are not finite are blank."""
        text = self.read_text(target)
        number = self._with_points(text).cast(pl.Float64, strict=False)
        self._refuse(target, text, text.is_not_null() & number.is_null(), "a number or blank")
        return number.set(~number.is_finite(), None)

    def read_integer(self, target: str, low: int = -(2**53), high: int = 2**53) -> pl.Series:
        """Whole numbers from `low` to `high`."""
        number = self.read_number(target)
        is_bounded = high < 2**53
        wrong = number.is_not_null() & ((number != number.round()) | ~number.is_between(low, high))
        expected = f"a whole number from {low} to {high}" if is_bounded else "a whole number"
        self._refuse(target, self.read_text(target), wrong, f"{expected}, or blank")
        return number.cast(pl.Int64)

    def read_years(self, target: str) -> pl.Series:
        """Years from the exam; of a column that has days instead (days_to_... of years_to_...), days / 365.25."""
        in_days = target.replace("years", "days", 1)
        given = [name for name in (target, in_days) if name in self.columns]
        if len(given) > 1:
            first, second = (f"'{self.columns[name].name}' ({name})" for name in given)
            raise UserError(
                f"{self.source}: columns {first} and {second} tell the same in two units: leave one out, with "
                f"--columns {in_days}="
            )
        name = given[0] if given else target
        times, unit = self.read_number(name), name.partition("_")[0]
        self._refuse(name, self.read_text(name), times.fill_null(0) < 0, f"{unit} from the exam, 0 or more, or blank")
        return times / DAYS_A_YEAR if unit == "days" else times

    def read_age(self) -> pl.Series:
        """Years, from numbers or DICOM age strings."""
        text = self.read_text("age")
        parts = (
            self._with_points(text)
            .str.to_lowercase()
            .str.extract_groups(r"^(-?\d+\.?\d*)\s*([ymwd]?)$")
            .struct.unnest()
        )
        number, unit = parts.get_columns()
        years = number.cast(pl.Float64) * unit.replace_strict(AGE_UNITS, default=1.0, return_dtype=pl.Float64)
        self._refuse("age", text, text.is_not_null() & years.is_null(), "years, or an age like 054Y, 006M, 012W, 030D")
        return years

    def read_days(self) -> pl.Series:
        """Days on any scale: the day column, else the date column counted from an origin that is not kept."""
        if "day" in self.columns:
            text = self.read_text("day")
            days = self._with_points(text).cast(pl.Float64, strict=False)
            self._refuse("day", text, text.is_not_null() & ~days.is_finite().fill_null(False), "a number of days")
            return -days if self.columns["day"].negative else days
        text = self.read_text("date")
        # A time of day after the date is cut off; day first or month first cannot be told apart, so neither is read.
        dates = pl.DataFrame({"date": text.str.replace(r"[T ]\d{1,2}:.*$", "").str.replace(r"\.0$", "")}).select(
            pl.coalesce(pl.col("date").str.to_date(style, strict=False) for style in DATE_FORMATS)
        )
        days = dates["date"].cast(pl.Int32).cast(pl.Float64)
        # The date itself stays out of the message.
        self._refuse(
            "date", text, text.is_not_null() & days.is_null(), "a date like 2019-03-28 or 20190328", show=False
        )
        return days

    def read_views(self) -> dict[str, pl.Series]:
        """path, position, kind and laterality as equally long lists, one entry per image of the row."""
        paths = self._read_list("image")
        lengths = paths.list.len()
        views = {"path": paths}
        for target, name in (("view", "position"), ("kind", "kind"), ("laterality", "laterality")):
            values = self._read_list(target)
            wrong = (values.list.len() != 1) & (values.list.len() != lengths)
            shown = self.table[self.columns[target].name] if target in self.columns else values
            self._refuse(target, shown, wrong, "one for the row, or one for each of its images")
            views[name] = (
                pl.DataFrame({"values": values, "num": lengths})
                .select(
                    pl.when(pl.col("values").list.len() == 1)
                    .then(pl.col("values").list.first().repeat_by("num"))
                    .otherwise("values")
                )
                .to_series()
            )
        element = pl.element()
        blank = element.str.to_lowercase().is_in(list(BLANKS))
        # The position stays as the archive wrote it; nobody's name for a view is "".
        views["position"] = views["position"].list.eval(
            pl.when(blank).then(pl.lit("")).otherwise(element).fill_null("")
        )
        for target, words, expected in (
            ("kind", KINDS, "frontal, lateral, cc, mlo, unknown or F, L, U"),
            ("laterality", LATERALITIES, "left, right, both or L, R, B"),
        ):
            lower = views[target].list.eval(pl.when(~blank).then(element.str.to_lowercase()))
            wrong = lower.list.eval(element.is_not_null() & ~element.is_in(list(words))).list.any()
            shown = self.table[self.columns[target].name] if target in self.columns else lower
            self._refuse(target, shown, wrong, expected)
            known = pl.element().replace_strict(words, default="unknown", return_dtype=pl.String)
            views[target] = lower.list.eval(known)
        return views

    def _with_points(self, text: pl.Series) -> pl.Series:
        return text.str.replace(r"^(-?\d*),(\d+)", "${1}.${2}") if self._decimal_comma else text

    def _read_list(self, target: str) -> pl.Series:
        """Lists of stripped text with at least one entry; text is split at ';' or read as a Python list."""
        if target not in self.columns:
            return pl.Series([[None]], dtype=pl.List(pl.String)).new_from_index(0, len(self.table))
        cells = self.table[self.columns[target].name]
        if cells.dtype != pl.List:
            literal = cells.str.starts_with("[").fill_null(False)
            split = cells.str.split(";")
            if literal.any():
                parsed = pl.Series(
                    [self._parse_list(target, text) if text.startswith("[") else None for text in cells.fill_null("")]
                )
                split = parsed.cast(pl.List(pl.String)).zip_with(literal, split) if not literal.all() else parsed
            cells = split
        cells = cells.cast(pl.List(pl.String)).list.eval(pl.element().str.strip_chars().replace("", None))
        empty = cells.is_null() | (cells.list.len() == 0)
        return cells.zip_with(~empty, pl.Series([[None]], dtype=pl.List(pl.String)).new_from_index(0, len(cells)))

    def _parse_list(self, target: str, text: str) -> list[str]:
        try:
            return [str(value) for value in ast.literal_eval(text)]
        except (ValueError, SyntaxError):
            column = self.columns[target].name
            raise UserError(
                f"{self.source}: column '{column}' has '{text[:40]}', expected a list like ['a.png', 'b.png']."
            ) from None

    def _refuse(self, target: str, text: pl.Series, wrong: pl.Series, expected: str, show: bool = True) -> None:
        if not wrong.any():
            return
        first = wrong.arg_true()[0]
        found = f"'{text[first]}'" if show else "something else"
        number = int(wrong.sum())
        column = self.columns[target].name
        advice = self._advice or f"Correct it, or leave it out with --columns {target}="
        raise UserError(
            f"{self.source}, row {self.rows[first]}: column '{column}' ({target}) has {found}, expected {expected}; "
            f"{say_count(number, 'such row')}. {advice}"
        )
