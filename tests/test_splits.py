import string

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hilum.errors import UserError
from hilum.splits import (
    Fingerprint,
    assign_splits,
    check_no_overlap,
    count_by_fraction,
    find_shared,
    fingerprint_studies,
    group_patients,
    list_joined,
    list_moved,
    select_people,
    split_by_rank,
    split_by_threshold,
)
from hilum.study import build_studies

FRACTIONS = {"train": 0.6, "val": 0.2, "test": 0.2}
PADCHEST = {"train": 0.97, "val": 0.015, "test": 0.015}


def make_table(rows: list[tuple[str, str | None]], dataset: str = "d", prefix: str = "s") -> pl.DataFrame:
    """Studies with one view each from (patient, content hash)."""
    return build_studies(
        [
            {
                "dataset": dataset,
                "study": f"{prefix}{number}",
                "patient": patient,
                "root": f"/{dataset}",
                "views": [
                    {
                        "path": f"{prefix}{number}.png",
                        "kind": "frontal",
                        "position": "",
                        "laterality": "unknown",
                        "content_hash": content,
                    }
                ],
            }
            for number, (patient, content) in enumerate(rows)
        ]
    )


# Few patients and fewer pixels, so that joins, and chains of joins, are frequent.
patients = st.sampled_from(string.ascii_lowercase)
pixels = st.one_of(st.none(), st.integers(0, 30).map(str))
tables = st.lists(st.tuples(patients, pixels), min_size=1, max_size=40)


def join_slowly(rows: list[tuple[str, str | None]]) -> dict[str, str]:
    """Reference: relabel until nothing changes."""
    group = {patient: patient for patient, _ in rows}
    for _ in rows:
        for one, content in rows:
            for other, same in rows:
                if content is not None and content == same:
                    group[one] = group[other] = min(group[one], group[other])
    return group


@settings(max_examples=25, deadline=None)
@given(tables)
def test_groups_are_the_connected_patients(rows: list[tuple[str, str | None]]) -> None:
    frame = group_patients(make_table(rows))
    assert dict(frame.select("patient", "group").iter_rows()) == join_slowly(rows)


@settings(max_examples=25, deadline=None)
@given(tables, tables, st.randoms())
def test_groups_depend_on_no_order_and_no_stranger(rows, strangers, random) -> None:
    frame = make_table(rows)
    once = group_patients(frame)
    more = make_table([(patient.upper(), content and f"x{content}") for patient, content in strangers], prefix="x")
    both = pl.concat([frame, more])
    order = random.sample(range(len(both)), len(both))
    again = group_patients(both[order]).filter(pl.col("study").str.starts_with("s"))
    key = ["study", "group"]
    assert again.select(key).sort("study").equals(once.select(key).sort("study"))
    assert group_patients(once).equals(once)


def test_what_joins_patients() -> None:
    frame = make_table([(patient, None) for patient in "abcdefgh"])
    named = frame.with_columns(
        # One study listed under two patients, one file under two studies, one group that the archive names.
        study=pl.when(pl.col("patient").is_in(["a", "b"])).then(pl.lit("shared")).otherwise("study"),
        views=pl.col("views").gather([7, 1, 2, 2, 4, 5, 6, 7]),
        group=pl.when(pl.col("patient").is_in(["e", "f"])).then(pl.lit("family")).otherwise("patient"),
    )
    grouped = group_patients(named, links=[("f", "g")])
    assert dict(grouped.select("patient", "group").iter_rows()) == {
        **dict.fromkeys("abh", "a"),  # a has the file of h
        "c": "c",
        "d": "c",  # and d that of c
        **dict.fromkeys("efg", "e"),
    }
    assert list_joined(grouped).rows() == [
        ("a", ["a", "b", "h"], 3),
        ("e", ["e", "f", "g"], 3),
        ("c", ["c", "d"], 2),
    ]


@settings(max_examples=25, deadline=None)
@given(tables, st.sampled_from(["threshold", "rank"]))
def test_no_group_and_no_pixels_in_two_splits(rows, rule) -> None:
    frame = assign_splits(group_patients(make_table(rows)), rule, FRACTIONS)
    assert frame["split"].null_count() == 0
    assert frame.group_by("group").agg(pl.col("split").n_unique())["split"].to_list() == [1] * frame["group"].n_unique()
    check_no_overlap(frame)


@settings(max_examples=25, deadline=None)
@given(tables, tables)
def test_adding_studies_moves_nobody_but_the_newly_joined(rows, added) -> None:
    old = assign_splits(group_patients(make_table(rows)), fractions=FRACTIONS)
    extended = pl.concat([make_table(rows), make_table(added, prefix="new")])
    new = assign_splits(group_patients(extended), fractions=FRACTIONS)
    moved = list_moved(old, new)
    joined = set(old.join(new, on="patient", suffix="_new").filter(pl.col("group") != pl.col("group_new"))["patient"])
    assert set(moved["patient"]) <= joined
    by_patient = dict(old.select("patient", "split").iter_rows())
    for patient, split in new.select("patient", "split").iter_rows():
        if by_patient.get(patient, split) != split:
            assert patient in set(moved["patient"])


def test_a_join_across_splits_is_listed() -> None:
    frame = make_table([(f"p{number:02}", None) for number in range(30)])
    old = assign_splits(group_patients(frame), fractions=FRACTIONS)
    of = dict(old.select("patient", "split").iter_rows())
    smaller, larger = next((a, b) for a in sorted(of) for b in sorted(of) if a < b and of[a] != of[b])
    new = assign_splits(group_patients(frame, links=[(smaller, larger)]), fractions=FRACTIONS)
    assert list_moved(old, new).rows() == [("d", larger, of[larger], of[smaller], larger, smaller)]


def test_threshold_fractions_hold_on_average() -> None:
    splits = split_by_threshold([f"patient {number}" for number in range(8_000)], PADCHEST)
    counts = pl.Series(list(splits.values())).value_counts()
    shares = {name: count / 8_000 for name, count in counts.iter_rows()}
    assert shares == pytest.approx(PADCHEST, abs=0.006)
    assert splits != split_by_threshold(splits, PADCHEST, salt="other")


def test_padchest_counts_with_the_mixed_study_united() -> None:
    """M 8-2: 97/1.5/1.5 % of 67,625 patients, two of whom share one study."""
    assert count_by_fraction(67_625, PADCHEST) == {"train": 65_596, "val": 1_014, "test": 1_015}
    rows = pl.DataFrame({"patient": [f"patient {number}" for number in range(67_625)]}).with_row_index("study")
    frame = build_studies(rows.with_columns(dataset=pl.lit("padchest"), root=pl.lit("/archive")))
    frame = group_patients(frame, links=[("patient 17", "patient 4711")])
    assert frame["group"].n_unique() == 67_624
    frame = assign_splits(frame, "rank", PADCHEST)
    counts = dict(frame.group_by("split").agg(pl.col("patient").n_unique()).iter_rows())
    assert counts == {"train": 65_596, "val": 1_014, "test": 1_015}
    assert frame.filter(pl.col("patient").is_in(["patient 17", "patient 4711"]))["split"].n_unique() == 1


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(1, 3), min_size=4, max_size=60), st.integers(0, 5))
def test_rank_counts_are_exact_while_single_patients_remain(sizes: list[int], salt: int) -> None:
    groups = {f"g{number}": size for number, size in enumerate(sizes)}
    groups |= {f"single{number}": 1 for number in range(6)}
    counts = count_by_fraction(sum(groups.values()), FRACTIONS)
    splits = split_by_rank(groups, counts, str(salt))
    found = dict.fromkeys(counts, 0)
    for group, split in splits.items():
        found[split] += groups[group]
    assert sum(found.values()) == sum(counts.values())
    assert all(abs(found[split] - counts[split]) <= 2 for split in counts)
    if max(sizes) == 1:
        assert found == counts


def test_every_split_has_somebody_where_it_can() -> None:
    assert count_by_fraction(8, {"train": 0.8, "val": 0.1, "test": 0.1}) == {"train": 6, "val": 1, "test": 1}
    assert count_by_fraction(8, {"train": 0.9, "test": 0.1}) == {"train": 7, "val": 0, "test": 1}
    assert count_by_fraction(30, {"train": 0.8, "val": 0.1, "test": 0.1}) == {"train": 24, "val": 3, "test": 3}


@pytest.mark.parametrize("fractions", [{"train": 0.9}, {"train": 1.2, "val": -0.2}, {"train": 0.9, "dev": 0.1}])
def test_impossible_fractions_are_refused(fractions: dict[str, float]) -> None:
    with pytest.raises(UserError, match=r"add up to 1|no split dev"):
        split_by_threshold(["a"], fractions)


def test_official_lists_stay_and_pull_their_group() -> None:
    frame = make_table([("a", None), ("a", None), ("b", None), ("c", "7"), ("d", "7")])
    frame = group_patients(frame.with_columns(split=pl.Series(["test", None, None, "val", None])))
    assigned = assign_splits(frame, "rank", {"train": 1.0})
    assert assigned["split"].to_list() == ["test", "test", "train", "val", "val"]
    assert assign_splits(frame, "rank", {"train": 1.0}, keep_existing=False)["split"].to_list() == ["train"] * 5


def test_official_lists_that_part_a_patient_are_an_error() -> None:
    frame = make_table([("a", None), ("b", None), ("c", "7"), ("d", "7")])
    frame = group_patients(frame.with_columns(split=pl.Series(["train", "train", "train", "test"])))
    with pytest.raises(UserError, match=r"Leak: 1 patient \(c\) in both train and test: 1 study \(d/s3\)"):
        assign_splits(frame)


def test_overlap_is_found_across_archives() -> None:
    pretraining, test = make_table([("a", "1"), ("b", "2")], "nih"), make_table([("x", "9"), ("y", "2")], "rsna")
    with pytest.raises(UserError, match=r"Leak: 1 image \(2\) \(same pixels\) in both pretraining and test"):
        check_no_overlap({"pretraining": pretraining, "test": test})
    check_no_overlap({"pretraining": pretraining[:1], "test": test})
    joined = group_patients(pl.concat([pretraining, test]))
    parts = {"pretraining": joined.filter(dataset="nih"), "test": joined.filter(dataset="rsna")}
    with pytest.raises(UserError, match=r"1 patient \(b\) in both pretraining and test: 1 study \(rsna/s1\)"):
        check_no_overlap(parts)


def test_a_record_names_nobody_and_finds_everybody() -> None:
    table = make_table([("a", "1"), ("b", None)])
    record = fingerprint_studies(table, "a salt")
    assert not record.people["a salt"] & {"a", "b"}
    assert not record.people["a salt"] & fingerprint_studies(table, "another").people["another"]
    assert find_shared(record, table) == ({"a", "b"}, {"1"})
    assert find_shared(record, make_table([("c", "2")])) == (set(), set())
    both = Fingerprint({**record.people, **fingerprint_studies(make_table([("c", "2")]), "x").people}, record.pixels)
    assert find_shared(both, make_table([("c", "1"), ("d", "2")], "elsewhere")) == ({"c"}, {"1"})


def test_a_patient_is_found_under_another_group_and_in_another_archive() -> None:
    before = group_patients(make_table([("p2", "1")]))
    # A later study of theirs shares its pixels with a patient of a smaller id, who gives the group its name.
    after = group_patients(make_table([("p1", "2"), ("p2", "2")], "other"))
    assert set(before["group"]) == {"p2"}
    assert set(after["group"]) == {"p1"}
    people, pixels = find_shared(fingerprint_studies(before), after)
    assert (people, pixels) == ({"p2"}, set())
    assert select_people(after, people)["study"].to_list() == ["s1"]
