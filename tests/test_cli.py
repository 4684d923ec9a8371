"""The command line: help that teaches, and bad input met with a message that says what to do."""

from __future__ import annotations

import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from hilum.cli import COMMANDS, main
from toy_archive import make_cache


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_explains_itself(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with suppress(SystemExit):  # how tyro ends after its help
        main([name, "--help"])
    assert "usage: hilum " + name in capsys.readouterr().out


def test_help_imports_nothing_heavy() -> None:
    program = (
        "import sys; from hilum.cli import main\n"
        "for words in ([], ['cache', '--help'], ['pretrain', '--help']):\n"
        "    try: main(words)\n"
        "    except SystemExit: pass\n"
        "print([name for name in ('torch', 'polars', 'pydicom', 'matplotlib', 'sklearn') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["cahce"], "There is no command 'cahce'. Did you mean 'cache'?"),
        (["ingest", "mimic"], "There is no source 'mimic'. Sources: folder, table."),
        (["ingest", "tabel"], "There is no source 'tabel'. Did you mean 'table'?"),
        (["ingest", "folder", "nowhere", "--out", "x.parquet"], "There is no folder nowhere."),
        (["ingest", "table", "nothing.csv", "--out", "x.parquet"], "There is no table nothing.csv."),
        (["ingest", "table", "t.csv", "--out", "x", "--columns", "patient"], "expected meaning=column"),
        (["pretrain", "mvmea", "--data", "c", "--out", "r"], "There is no recipe 'mvmea'. Did you mean mvmae?"),
        (["pretrain", "mvmae", "--data", "nowhere", "--out", "r"], "nowhere"),
        (["report", "nowhere"], "nothing to draw"),
        (["doctor", "nowhere"], "neither a cache"),
    ],
)
def test_bad_input_is_named(
    words: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(words) == 2
    assert message in capsys.readouterr().err


def test_misspelt_setting_gets_a_suggestion(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["pretrain", "mvmae", "--data", "c", "--out", "r", "--optim.lrr", "1"])
    assert stop.value.code == 2
    said = capsys.readouterr()
    assert "--optim.lr" in said.out + said.err


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["--data.augment.flip-whole-study"], "flip_whole_study has no effect"),
        (["--encoder.image-size", "100"], "not a multiple"),
        (["--mask.ratio", "0.999"], "leaves none"),
        (["--data.crop.mode", "center", "--data.crop.min-scale", "0.3"], "have no effect with"),
        (["--preset", "code", "--terms.alignment.projector", "8"], "has no projector"),
    ],
)
def test_settings_without_effect_are_refused(
    settings: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["pretrain", "mvmae", "--data", "c", "--out", "r", *settings]) == 2
    assert message in capsys.readouterr().err


def test_doctor_finds_a_flipped_byte(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cache = make_cache(tmp_path, [1, 2, 1])
    assert main(["doctor", str(cache.path)]) == 0
    shard = next(cache.path.glob("shard-*.bin"))
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)
    assert main(["doctor", str(cache.path)]) == 2
    assert f"WRONG {shard.name}" in capsys.readouterr().out
