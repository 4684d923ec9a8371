"""Tables in the format of Mirai (its README; L 3.4): a row for each view, outcomes in whole years from the exam.

==========================  ===========================================================================================
patient_id, exam_id         the two together name an exam
laterality, view            L or R; CC or MLO
file_path                   of the image, absolute
years_to_cancer             whole years until the woman's diagnosis; 0: found on this exam; 100: never
years_to_last_followup      whole years for which she is known to be free of cancer; 0 or less without cancer: no use
split_group                 train, dev or test
==========================  ===========================================================================================

Nothing is blank. Outcomes are the woman's and of no side, so that both breasts of an exam have them. Mirai drops exams
without all four views; they are kept here, and told. Where rows of an exam disagree it takes the first's outcome, and
where those of a patient do the last's split; here that is an error.
"""

from __future__ import annotations

import polars as pl

from hilum.errors import UserError
from hilum.wording import say_count

# Target of the study table -> Mirai's column.
COLUMNS = {
    "patient": "patient_id",
    "study": "exam_id",
    "laterality": "laterality",
    "view": "view",
    "image": "file_path",
    "years_to_cancer": "years_to_cancer",
    "years_to_last_followup": "years_to_last_followup",
    "split": "split_group",
}
NEVER = 100
_EXAM = ("patient_id", "exam_id")
_YEARS = ("years_to_cancer", "years_to_last_followup")
_VIEWS = 4


def translate_mirai(table: pl.DataFrame, source: str, first_row: int, notes: list[str]) -> pl.DataFrame:
    """The table with outcomes as `hilum ingest table` reads them: no cancer is a blank, and so is no follow-up.

    Args:
        table: of text.
        source: its name.
        first_row: number of its first row, for messages.
        notes: gets what a reader must know.

    Raises:
        UserError: a column lacks, a cell is blank or no whole number of years, or rows of one exam, or of one patient,
            disagree; with the row.
    """
    if lacking := [name for name in COLUMNS.values() if name not in table.columns]:
        raise UserError(
            f"{source} is not in Mirai's format: it has no column {', '.join(lacking)}. Leave --mirai out, and "
            "`hilum ingest table` takes the columns that are there."
        )
    said = table.select(pl.col(name).str.strip_chars() for name in COLUMNS.values()).with_row_index("row", first_row)
    for name in COLUMNS.values():
        _refuse(
            said, pl.col(name).is_null() | (pl.col(name) == ""), name, source, "which Mirai's format does not allow"
        )
    expected = f"expected whole years; {NEVER} is no cancer"
    for name in _YEARS:
        _refuse(said, ~pl.col(name).str.contains(r"^[+-]?\d+(\.0*)?$"), name, source, expected)
    said = said.with_columns(pl.col(name).cast(pl.Float64) for name in _YEARS)
    _refuse(said, pl.col("years_to_cancer") < 0, "years_to_cancer", source, expected)
    for name in _YEARS:
        _refuse(said, pl.col(name) != pl.col(name).first().over(_EXAM), name, source, "other rows of the exam another")
    other = pl.col("split_group") != pl.col("split_group").first().over("patient_id")
    _refuse(said, other, "split_group", source, "other rows of the patient another")
    cancer = pl.col("years_to_cancer") != NEVER
    followed = pl.col("years_to_last_followup")
    notes += _describe(said, cancer, followed)
    return table.with_columns(
        said.select(
            years_to_cancer=pl.when(cancer).then("years_to_cancer"),
            # Whoever gets cancer is followed until then, whatever the years without cancer are said to be.
            years_to_last_followup=pl.when(cancer)
            .then(pl.max_horizontal(*_YEARS))
            .otherwise(pl.when(followed > 0).then(followed)),
        ).select(pl.all().cast(pl.String))
    )


def refuse_never(table: pl.DataFrame, column: str, source: str) -> None:
    """A UserError where years to cancer are Mirai's 100, which anywhere else is a cancer in a hundred years."""
    number = int((table[column].str.strip_chars().cast(pl.Float64, strict=False) == NEVER).sum())
    if number:
        raise UserError(
            f"{source}: column '{column}' has {NEVER} years to cancer in {say_count(number, 'row')}: in Mirai's format "
            "that is no cancer. Give --mirai, or leave those cells blank."
        )


def _refuse(said: pl.DataFrame, wrong: pl.Expr, name: str, source: str, expected: str) -> None:
    found = said.filter(wrong)
    if found.is_empty():
        return
    shown = found[name][0]
    shown = "nothing" if shown in (None, "") else f"'{shown:g}'" if isinstance(shown, float) else f"'{shown}'"
    raise UserError(
        f"{source}, row {found['row'][0]}: column '{name}' has {shown}, {expected}; "
        f"{say_count(len(found), 'such row')}. Correct the table, or leave --mirai out."
    )


def _describe(said: pl.DataFrame, cancer: pl.Expr, followed: pl.Expr) -> list[str]:
    exams = said.group_by(_EXAM, maintain_order=True).agg(
        views=pl.struct(pl.col("laterality", "view").str.to_uppercase()).n_unique(),
        useless=(~cancer & (followed <= 0)).first(),
    )
    notes = ["Mirai's outcomes are of the woman, not of a side: both breasts of an exam have them."]
    if few := int((exams["views"] < _VIEWS).sum()):
        notes.append(f"{say_count(few, 'exam')} without all four views, which Mirai drops: kept.")
    if useless := int(exams["useless"].sum()):
        notes.append(
            f"{say_count(useless, 'exam')} without cancer and without a year of follow-up: no outcome is known."
        )
    return notes
