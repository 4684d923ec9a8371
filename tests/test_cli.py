"""The command line: help that teaches, and bad input met with a message that says what to do."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import get_type_hints

import polars as pl
import pytest

from hilum.cache import Cache
from hilum.cli import COMMANDS, main
from hilum.commands.ingest import SOURCES
from hilum.config import dump_config
from hilum.recipes import RECIPES, build_recipe
from hilum.study import build_studies
from toy_archive import make_cache, write_archive


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_explains_itself(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with suppress(SystemExit):  # how tyro ends after its help
        main([name, "--help"])
    assert "usage: hilum " + name in capsys.readouterr().out


def test_help_says_how_to_ask_for_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    assert "`hilum --version`" in capsys.readouterr().out
    assert main(["--version"]) == 0
    assert re.fullmatch(r"hilum \d+\.\d+\.\d+\n", capsys.readouterr().out)


def test_the_help_of_an_action_says_what_it_reads(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["text", "tokens", "--help"])
    assert re.search(r"usage: hilum text tokens .*PATH", capsys.readouterr().out.replace("\n", " "))


def test_the_help_of_pretrain_says_what_every_recipe_is(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["pretrain", "--help"])
    said = capsys.readouterr().out
    for name in RECIPES:
        assert re.search(rf"^  {name}: \w.*\.$", said, re.MULTILINE), name


def test_help_imports_nothing_heavy() -> None:
    program = (
        "import sys; from hilum.cli import main\n"
        "for words in ([], ['cache', '--help'], ['pretrain', '--help'], ['pretrain', 'labs', '--help'],\n"
        "              ['embed', '--help'], ['ingest', 'table', '--help']):\n"
        "    try: main(words)\n"
        "    except SystemExit: pass\n"
        "print([name for name in ('torch', 'polars', 'pydicom', 'matplotlib', 'sklearn') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_what_is_not_there_is_refused_before_anything_heavy_is_imported(tmp_path: Path) -> None:
    (tmp_path / "unfinished").mkdir()
    (tmp_path / "unfinished/config.json").write_text("{}")
    asked = [
        ["probe", "nowhere", "--data", "c"],
        ["probe", "unfinished", "--data", "c"],
        ["probe", "timm:resnet18=random", "--data", "nocache", "--out", "o"],
        ["probe", "timm:resnet18=random", "--against", "timm:resnet18=nofile", "--data", "c", "--out", "o"],
        ["finetune", "supervised:huge", "--data", "c"],
        ["finetune", "supervised:nano", "--data", "nocache", "--out", "o"],
        ["evaluate", "mvmae", "--data", "c", "--out", "o", "--runs", "a=nowhere,supervised:nano"],
        ["evaluate", "mvmae", "--data", "nocache", "--out", "o", "--runs", "a=supervised:nano"],
        ["embed", "nowhere", "--data", "c", "--out", "v.parquet"],
        ["embed", "ecgfounder=nofile", "--data", "c", "--out", "v.parquet"],
        ["embed", "ecgfounder=random", "--data", "nocache", "--out", "v.parquet"],
        ["describe", "nowhere", "--data", "c", "--out", "v.parquet"],
        ["pretrain", "mvmae", "--data", "nocache", "--out", "r"],
        ["pretrain", "ecg", "--data", "nocache", "--out", "r"],
        ["pretrain", "labs", "--data", "nocache.parquet", "--out", "r"],
        ["text", "tokens", "nocache"],
        ["report", "nowhere"],
        ["weights", "info", "nowhere"],
        ["weights", "import", "nowhere", "--layout", "mae", "--out", "w.safetensors"],
    ]
    program = (
        "import sys; from hilum.cli import main\n"
        f"codes = [main(words) for words in {asked!r}]\n"
        "print(codes, [name for name in ('torch', 'polars', 'matplotlib', 'sklearn') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout.splitlines()[-1] == f"{[2] * len(asked)} []"
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    for words, error in zip(asked, errors, strict=True):
        found = next(
            word for word in ("unfinished", "nocache", "nofile", "supervised:huge", "nowhere") if word in error
        )
        assert any(found in word for word in words), error
    assert [path.name for path in tmp_path.iterdir()] == ["unfinished"]


def test_tasks_and_label_counts_that_cannot_be_are_refused_before_torch_is_imported(tmp_path: Path) -> None:
    make_cache(tmp_path, [1] * 8, Edema=[0, 1] * 4)
    known = {"--task": "edema", "--label-count": "1000", "--leave-out": "nih"}
    asked = [
        ["probe", "supervised:nano", "--data", "cache", "--out", "o", *flag] for flag in known.items()
    ] + [
        ["finetune", "supervised:nano", "--data", "cache", "--out", "o", *flag] for flag in known.items()
    ] + [
        ["evaluate", "mvmae", "--runs", "supervised:nano", "--data", "cache", "--out", "o", "--label-counts", "1000"],
        ["evaluate", "pacx", "--runs", "supervised:nano", "--data", "cache", "--out", "o", "--task", "edema"],
    ]  # fmt: skip
    program = (
        "import sys; from hilum.cli import main\n"
        f"codes = [main(words) for words in {asked!r}]\n"
        "print(codes, [name for name in ('torch', 'matplotlib', 'sklearn') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout.splitlines()[-1] == f"{[2] * len(asked)} []", done.stderr
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    for error, said in zip(errors, ["no task 'edema'", "1,000 labelled studies", "nih"] * 2, strict=False):
        assert said in error
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["cahce"], "There is no command 'cahce'. Did you mean 'cache'?"),
        (["ingest", "mimic"], "There is no source 'mimic'. Did you mean 'mimic-cxr'? Sources: folder, table, "),
        (["ingest", "tabel"], "There is no source 'tabel'. Did you mean 'table'?"),
        (["ingest", "folder", "nowhere", "--out", "x.parquet"], "There is no folder nowhere."),
        (
            ["ingest", "table", "nothing.csv", "--out", "x.parquet"],
            "nothing.csv: there is no such file; expected",
        ),
        (["ingest", "table", "t.csv", "--out", "x", "--columns", "patient"], "expected meaning=column"),
        (["pretrain", "mvmea", "--data", "c", "--out", "r"], "There is no recipe 'mvmea'. Did you mean mvmae?"),
        (["pretrain", "mvmae", "--data", "nowhere", "--out", "r"], "nowhere"),
        (["report", "nowhere"], "nothing to draw"),
        (["report"], "name at least one cache, run, probe or study table"),
        (["doctor", "nowhere"], "neither a cache"),
        (["probe", "r", "--data", "c", "--crossval", "--label-count", "20"], "no effect beside --crossval"),
    ],
)
def test_bad_input_is_named(
    words: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(words) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("cache s.parquet --out c --short-side 0", "--short-side is 0; it must be greater than or equal to 1."),
        ("cache s.parquet --out c --workers -3", "--workers is -3; it must be greater than or equal to 0."),
        ("ingest folder . --out s.parquet --workers -1", "--workers is -1; it must be greater than or equal to 0."),
        ("finetune r --data c --epochs 0", "--epochs is 0; it must be greater than or equal to 1."),
        ("finetune r --data c --lr inf", "--lr is inf; it must be a finite number."),
        ("finetune r --data c --lr nan", "--lr is nan; it must be a finite number."),
        ("finetune r --data c --views-per-step 0", "--views-per-step is 0; it must be greater than or equal to 1."),
        ("finetune r --data c --layer-decay 1.5", "--layer-decay is 1.5; it must be less than or equal to 1."),
        ("finetune r --data c --seed -1", "--seed is -1; it must be greater than or equal to 0."),
        ("probe r --data c --label-count 20 0", "--label-count is 0; it must be greater than or equal to 1."),
        ("probe r --data c --seeds 0", "--seeds is 0; it must be greater than or equal to 1."),
        (
            "embed r --data c --out v.parquet --batch-views 0",
            "--batch-views is 0; it must be greater than or equal to 1.",
        ),
        ("phantom --out p --studies 0", "--studies is 0; it must be greater than or equal to 1."),
        ("phantom --out p --size 15", "--size is 15; it must be greater than or equal to 16."),
        ("demo --steps 0", "--steps is 0; it must be greater than or equal to 1."),
    ],
)
def test_numbers_that_mean_nothing_are_refused(
    words: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(words.split()) == 2
    assert capsys.readouterr().err == f"error: {message}\n"
    assert not list(tmp_path.iterdir())


def test_every_number_of_a_command_has_a_range() -> None:
    for function in (*COMMANDS.values(), *SOURCES.values()):
        for name, hint in get_type_hints(function, include_extras=True).items():
            assert name == "return" or hint not in (int, float), f"{function.__name__} --{name}"


def test_what_comes_next_can_be_pasted_into_a_shell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_archive(tmp_path / "my archive", [1] * 40)
    monkeypatch.chdir(tmp_path)

    def run(*words: str) -> list[str]:
        assert main(list(words)) == 0
        last = capsys.readouterr().out.splitlines()[-1]
        assert last.startswith("Next: hilum ")
        return shlex.split(last)[2:]

    shown = run("ingest", "folder", "my archive", "--out", "my tables/all.parquet", "--modalities", "DX", "")
    cache = ["cache", "my tables/all.parquet", "--out", "my tables/all-cache"]
    assert shown == [*cache, "--modalities", "DX", ""]
    write_mine = "".join(f"{path.name},{path.name}\n" for path in sorted(Path("my archive").glob("*.png")))
    Path("my archive/t.csv").write_text(f"patient,path\n{write_mine}")
    assert run("ingest", "table", "my archive/t.csv", "--out", "my tables/all.parquet") == cache
    assert main([*cache, "--short-side", "32", "--workers", "1", "--split-rule", "rank"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-2] == "Splits: 32 train, 4 val, 4 test studies"
    assert lines[-1] == "Next: hilum pretrain mvmae --data 'my tables/all-cache' --out runs/first"


def test_no_output_goes_over_what_it_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cache = make_cache(tmp_path, [1, 1])
    monkeypatch.chdir(tmp_path)
    shutil.copy(tmp_path / "archive" / "toy-000-0.png", "a.png")
    Path("mine.csv").write_text("path\na.png\n")
    Path("labels.csv").write_text("name,edema\nx,1\n")
    pl.DataFrame({"path": ["a.png"]}).write_parquet("mine.parquet")
    pl.DataFrame({"theirs": [1]}).write_parquet("x-rejected.parquet")
    for name in ("folder.parquet", "folder.csv"):
        Path(name).mkdir()
    Path("empty.pth").touch()
    Path("broken.json").write_text('{"optim": ')
    assert main(["ingest", "table", "mine.csv", "--out", "studies.parquet"]) == 0
    assert main(["ingest", "table", "mine.csv", "--out", "studies.parquet"]) == 0  # its own may be replaced
    build_studies([{"dataset": "by hand"}]).write_parquet("hand.parquet")
    assert main(["ingest", "table", "mine.csv", "--out", "hand.parquet"]) == 0
    pl.DataFrame({"study": ["s"]}).write_parquet("vectors.parquet", metadata={"hilum_features": "{}"})
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    for words, said in (
        ("ingest table mine.csv --out labels.csv", "--out labels.csv: expected a name that ends in .parquet"),
        ("ingest table mine.csv --out mine.csv", "--out mine.csv: expected a name that ends in .parquet"),
        ("ingest table mine.parquet --out ./mine.parquet", "--out mine.parquet is the file that is read"),
        ("ingest table mine.csv --out mine.parquet", "mine.parquet exists and is not a file of Hilum: it would be"),
        ("ingest table mine.csv --out vectors.parquet", "vectors.parquet exists and is a table of features: it"),
        ("ingest table mine.csv --out folder.parquet", "--out folder.parquet is a folder; expected the name of a"),
        ("ingest table mine.csv --out cache/studies.parquet", "is in a cache, whose files only `hilum cache` writes"),
        ("ingest table mine.csv --out x.parquet", "x-rejected.parquet exists and is no list of rejected files"),
        ("embed run --data cache --out studies.parquet", "--out studies.parquet exists and is a study table: it would"),
        ("embed run --data cache --out cache/studies.parquet", "is in a cache"),
        ("embed run --data cache --out labels.csv", "--out labels.csv: expected a name that ends in .parquet"),
        ("report cache --out labels.csv", "--out labels.csv: expected a name that ends in .html"),
    ):
        assert main(words.split()) == 2, words
        assert said in capsys.readouterr().err
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    assert not Cache.open(cache.path).verify()


_TINY = "--size nano --encoder.image-size 32 --encoder.patch-size 8 --optim.steps 1 --data.views-per-step 4"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("ingest table mine.csv --out /proc/x/s.parquet", "/proc/x: No such file or directory"),
        ("ingest table mine.csv --out a.png/s.parquet", "a.png"),
        (f"pretrain mvmae --data s.parquet --out run {_TINY}", "s.parquet: this is a study table; run `hilum cache`"),
        (
            f"pretrain mvmae --data mine.csv --out run {_TINY}",
            "mine.csv: this is a file. Expected the folder of a cache.",
        ),
        (f"pretrain mvmae --data cache --out a.png {_TINY}", "a.png is a file; expected a new folder"),
        ("cache s.parquet --out a.png", "a.png exists and is not a cache"),
        ("cache s.parquet --out a.png/c", "a.png"),
        ("cache folder.parquet --out c", "folder.parquet: this is a folder, not a file; expected a study table"),
        ("report cache --out folder.html", "--out folder.html is a folder"),
        ("phantom --out a.png --studies 1", "a.png"),
        ("phantom --out b --breast --physiology", "--physiology belongs to chest studies"),
        ("doctor mine.csv", "neither a cache"),
        ("weights info mine.csv", "mine.csv"),
        ("ingest table folder.csv --out o.parquet", "folder.csv: this is a folder, not a file; expected a table"),
        (
            "weights import folder.csv --layout mae --out w",
            "folder.csv: this is a folder, not a file; expected a c",
        ),
        ("pretrain mvmae --data cache --out r --teachers a=folder.csv", "folder.csv: this is a folder, not a file; ex"),
        (
            "weights import empty.pth --layout mae --out w.safetensors",
            "empty.pth: not a whole checkpoint (the file is empty); expected",
        ),
        ("pretrain broken.json --data cache --out r", "broken.json: Invalid JSON: "),
        ("weights import mine.csv --layout mae --out w.safetensors", "mine.csv: not a checkpoint of torch.save"),
        ("weights import mine.csv --layout mae --out w.csv", "expected a name that ends in .safetensors"),
        ("weights mine.csv", "There is no action 'mine.csv'. Actions: import, info."),
        ("text cache", "There is no action 'cache'. Actions: tokens, write."),
    ],
)
def test_a_place_of_the_wrong_kind_is_named(
    words: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(make_cache(tmp_path, [1, 2, 1]).path.parent / "archive" / "toy-000-0.png", "a.png")
    shutil.copy(tmp_path / "archive" / "studies.parquet", "archive/s.parquet")
    Path("s.parquet").symlink_to("archive/s.parquet")
    Path("mine.csv").write_text("path\na.png\n")
    for name in ("folder.parquet", "folder.csv"):
        Path(name).mkdir()
    Path("empty.pth").touch()
    Path("broken.json").write_text('{"optim": ')
    Path("folder.html").mkdir()
    assert main(words.split()) == 2
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert said.startswith("error: ")
    assert message in said
    assert ".tmp" not in said


def test_misspelt_setting_gets_a_suggestion(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["pretrain", "mvmae", "--data", "c", "--out", "r", "--optim.lrr", "1"])
    assert stop.value.code == 2
    said = capsys.readouterr()
    assert "--optim.lr" in said.out + said.err


def test_misspelt_setting_in_a_config_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "mine.json"
    file.write_text(dump_config(build_recipe("mvmae")).replace('"lr"', '"lrr"'))
    assert main(["pretrain", str(file), "--data", "c", "--out", "r"]) == 2
    assert f"{file}: optim.lrr: " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["--data.augment.flip-whole-study"], "flip_whole_study has no effect"),
        (["--encoder.image-size", "100"], "not a multiple"),
        (["--mask.ratio", "0.999"], "leaves none"),
        (["--data.crop.mode", "center", "--data.crop.min-scale", "0.3"], "have no effect with"),
        (["--preset", "code", "--terms.alignment.projector", "8"], "has no projector"),
        (["--optim.steps", "9", "--optim.epochs", "3"], "optim.epochs has no effect beside optim.steps"),
        (["--data.augment.jitter-probability", "0", "--data.augment.contrast", "0.1"], "contrast have no effect"),
        (["--encoder.no-view-embedding", "--encoder.num-view-kinds", "5"], "num_view_kinds has no effect"),
        (["--optim.warmup", "0", "--optim.warmup-start", "0.5"], "warmup_start has no effect"),
        (["--run.checkpoint-every", "5", "--run.checkpoint-minutes", "1"], "checkpoint_minutes has no effect"),
    ],
)
def test_settings_without_effect_are_refused(
    settings: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["pretrain", "mvmae", "--data", "c", "--out", "r", *settings]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(("size", "file"), [("4k", "hilum-salt.txt"), ("8k", "studies.parquet")])
def test_a_full_disk_is_said_with_what_could_not_be_written(size: str, file: str, tmp_path: Path) -> None:
    table = write_archive(tmp_path / "archive", [1] * 40)
    images = sorted(path.name for path in table.parent.glob("*.png"))
    (table.parent / "mine.csv").write_text("\n".join(["patient,path", *(f"{name},{name}" for name in images)]))
    (tmp_path / "disk").mkdir()
    mount = 'mount -t tmpfs -o size=$1 none disk || exit 77; shift; "$@"; code=$?; echo "left:" disk/*; exit $code'
    words = ["ingest", "table", "archive/mine.csv", "--out", "disk/studies.parquet"]
    hilum = [sys.executable, "-c", "import sys; from hilum.cli import main; sys.exit(main())"]
    command = ["unshare", "-rm", "sh", "-c", mount, "sh", size, *hilum, *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    if done.returncode == 77 or "unshare" in done.stderr:
        pytest.skip("no right to mount a small disk")
    assert done.returncode == 2, done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert "run the same command again" in last
    assert f"disk/{file}: the disk is full" in last
    assert file not in done.stdout  # not even a half of it


def test_doctor_finds_a_flipped_byte(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cache = make_cache(tmp_path, [1, 2, 1])
    assert main(["doctor", str(cache.path)]) == 0
    shard = next(cache.path.glob("shard-*.bin"))
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)
    assert main(["doctor", str(cache.path)]) == 2
    assert f"WRONG {shard.name}" in capsys.readouterr().out


def test_a_run_that_has_logged_nothing_yet(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "config.json").write_text(dump_config(build_recipe("mvmae", "hilum", "nano")))
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "prog')  # the first line is only half there
    assert main(["doctor", str(tmp_path)]) == 0
    assert "no step was logged yet" in capsys.readouterr().out
    assert main(["report", str(tmp_path), "--out", str(tmp_path / "report.html")]) == 2
    assert "no step was logged yet" in capsys.readouterr().err


def test_a_config_that_is_not_there_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["pretrain", str(tmp_path / "nowhere.json"), "--data", "cache", "--out", str(tmp_path / "run")]) == 2
    assert "nowhere.json: not readable" in capsys.readouterr().err
