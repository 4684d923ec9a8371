"""From an archive with ECGs and laboratory values to an encoder of images that they taught, by the commands alone."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest

from hilum.cache import Cache
from hilum.cli import main
from hilum.config import load_config
from hilum.errors import UserError
from hilum.study import open_studies
from hilum.teachers.table import find_taught, list_people, write_teacher_table
from hilum.teachers.vectors import read_teacher_vectors

TINY = (
    "--size nano --encoder.width 16 --encoder.depth 1 --encoder.heads 2 --encoder.image-size 32 --encoder.patch-size 8 "
    "--optim.steps 3"
)
ECG = "--steps 4 --records-per-step 8 --encoder.width 16 --encoder.depth 1 --workers 1"
LABS = "--epochs 3 --warmup-steps 1 --batch-size 8 --hidden 16 --width 8"


@pytest.fixture(scope="module")
def road(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every command of the road; one ECG is gone before ingest, another is cut off after it."""
    folder = tmp_path_factory.mktemp("road")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        run(0, "phantom --out archive --studies 16 --size 96 --workers 1 --physiology")
        gone = next(path for path in pl.read_csv("archive/studies.csv")["ecg"] if path)
        (folder / "archive" / gone).unlink()
        run(
            3,
            "ingest table archive/studies.csv --labs.file archive/laboratory.csv --out studies.parquet --salt one-salt",
        )
        run(0, "cache studies.parquet --out cache --workers 1 --short-side 32 --fractions 0.6 0.2 0.2")
        train = find_studies(folder, pl.col("split") == "train", pl.col("signals").list.len() > 0)
        cut = Path(train["root"][0], train["signals"][0][0]["path"]).with_suffix(".dat")
        cut.write_bytes(cut.read_bytes()[:1000])
        run(3, f"pretrain ecg --data cache --out runs/ecg {ECG}")
        run(0, f"pretrain labs --data cache --out runs/labs --preset paper {LABS}")
        run(3, "embed runs/ecg --data studies.parquet --out ecg.parquet --workers 1")
        run(0, "embed runs/labs --data cache --out labs.parquet")
        run(0, f"pretrain mae --data cache --out runs/plain {TINY} --mask.ratio 0.75")
        taught = "--init runs/plain --teachers ecg=ecg.parquet labs=labs.parquet image=image.parquet"
        run(0, "embed runs/plain --data cache --out image.parquet --per study")
        run(0, f"pretrain pacx --data cache --out runs/taught {taught} {TINY}")
        run(0, "probe runs/taught --data cache --task position --seeds 1 --label-count 5 --representation mean")
    return folder


def run(code: int, command: str) -> None:
    assert main(command.split()) == code, command


def find_studies(folder: Path, *conditions: pl.Expr) -> pl.DataFrame:
    return open_studies(folder / "cache").filter(*conditions)


def test_every_step_leaves_what_the_next_one_reads(road: Path) -> None:
    config = load_config(road / "runs/taught/config.json")
    assert {name: table.width for name, table in config.teachers.tables.items()} == {"ecg": 48, "image": 16, "labs": 8}
    assert (road / "runs/taught/weights.safetensors").exists()
    assert list((road / "runs/taught").glob("probe*/probe.json"))
    assert json.loads((road / "runs/labs/config.json").read_bytes())["ties"] == "upper"


def test_a_bad_signal_is_set_aside_with_its_reason_and_an_absent_one_is_no_row(road: Path) -> None:
    assert pl.read_parquet(road / "rejected.parquet")["reason"].to_list() == [
        "the ECG does not exist; its study stays, without it"
    ]
    for listed in ("runs/ecg/rejected.parquet", "ecg-rejected.parquet"):
        rejected = pl.read_parquet(road / listed)
        assert len(rejected) == 1
        assert "its header and signal files do not fit each other" in rejected["reason"][0]
    studies = open_studies(road / "studies.parquet")
    with_ecg = set(studies.filter(pl.col("signals").list.len() > 0)["study"]) - set(rejected["study"])
    assert 5 < len(with_ecg) < len(studies)
    assert set(pl.read_parquet(road / "ecg.parquet")["study"]) == with_ecg
    labs = pl.read_parquet(road / "labs.parquet").join(find_studies(road), on=["dataset", "study"])
    assert set(labs["study"]) == set(find_studies(road, pl.col("labs").list.len() > 0)["study"])
    assert labs["num_observed"].to_list() == labs["labs"].list.len().to_list()


def test_teachers_have_learned_from_training_patients_alone(road: Path) -> None:
    for name, has in (("ecg", "signals"), ("labs", "labs"), ("image", "views")):
        train = find_studies(road, pl.col("split") == "train", pl.col(has).list.len() > 0)
        others = find_studies(road, pl.col("split") != "train")
        assert not find_taught(road / f"{name}.parquet", others)
        assert (
            len(find_taught(road / f"{name}.parquet", train) & set(train["patient"])) >= train["patient"].n_unique() - 1
        )
        assert (
            train["patient"][0]
            not in (road / f"runs/{'plain' if name == 'image' else name}/pretraining.json").read_text()
        )


def test_a_teacher_that_knows_test_patients_teaches_nobody(road: Path, tmp_path: Path) -> None:
    cache, test = Cache.open(road / "cache"), find_studies(road, pl.col("split") == "test")
    vectors = pl.read_parquet(road / "labs.parquet")
    write_teacher_table(
        tmp_path / "leak.parquet", vectors.drop("vector"), vectors["vector"].to_numpy(), made_by={},
        people=list_people(test, road / "cache"),
    )  # fmt: skip
    with pytest.raises(UserError, match=rf"learned from {test['patient'].n_unique()} patients whom .* keeps for"):
        read_teacher_vectors(cache, tmp_path / "leak.parquet")
    read_teacher_vectors(cache, road / "labs.parquet")


def test_a_run_is_continued_and_repeated_from_its_folder(road: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(road)
    run(2, f"pretrain labs --data cache --out runs/labs --preset paper {LABS}")
    run(0, f"pretrain labs --data cache --out runs/labs --preset paper {LABS} --resume")
    run(0, "pretrain runs/labs/config.json --data cache --out runs/again")
    run(3, "pretrain runs/ecg/config.json --data cache --out runs/ecg-again --workers 1")
    for one, other in (("labs", "again"), ("ecg", "ecg-again")):
        weights = [Path("runs", run, "weights.safetensors").read_bytes() for run in (one, other)]
        assert weights[0] == weights[1]


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("pretrain ecg --data studies.parquet --out x", "studies.parquet: it has no splits yet"),
        ("pretrain labs --data studies.parquet --out x", "studies.parquet: it has no splits yet"),
        ("pretrain labs --data archive --out x", "archive: no cache"),
        ("pretrain labs --data none.parquet --out x", "There is no study table none.parquet"),
        ("pretrain labs --data cache --out x --vocabulary mine.csv", "There is no vocabulary mine.csv"),
        ("pretrain runs/labs/config.json --data cache --out x --preset code", "--preset has no effect beside a config"),
        ("pretrain ecg --data cache --out x --contrast-weight 0 --reconstruction-weight 0", "nothing would be learned"),
        (
            "embed runs/labs --data cache --out x.parquet --per study",
            "--per has no effect with a teacher of laboratory",
        ),
        (
            "embed runs/plain --data cache --out x.parquet --workers 2",
            "--workers has no effect with an encoder of images",
        ),
        ("embed runs/none --data cache --out x.parquet --workers 2", "runs/none: "),
        ("embed ecgfounder --data cache --out x.parquet", "ecgfounder: whose weights?"),
        ("embed ecgfounder=none.pth --data cache --out x.parquet", "none.pth: there is no such file"),
        ("probe runs/ecg --data cache", "an encoder of ECGs, which reads no images"),
        ("report runs/labs --out x.html", "a run of an auto-encoder of laboratory values"),
    ],
)
def test_what_cannot_be_meant_is_answered_in_a_sentence(
    road: Path, command: str, message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(road)
    assert main(command.split()) == 2
    assert message in capsys.readouterr().err
    assert not list(road.glob("x*"))


def test_weights_say_what_a_teacher_is(road: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for run, said in (("ecg", "an encoder of ECGs: "), ("labs", "an auto-encoder of laboratory values: ")):
        assert main(["weights", "info", str(road / "runs" / run)]) == 0
        assert capsys.readouterr().out.startswith(said)
