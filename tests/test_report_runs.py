"""Runs that learn from reports: what they leave, continue with and write; the control; what is refused."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer

from hilum.cache import Cache
from hilum.checksums import hash_file
from hilum.cli import main
from hilum.config import Config, dump_config
from hilum.errors import UserError
from hilum.evaluate.describe import describe_studies
from hilum.model.report_weights import load_report_decoder
from hilum.splits import fingerprint_studies
from hilum.text.labeller import label_report
from hilum.text.report_tokens import list_absent_sections, open_report_tokens
from hilum.text.tokenizer import train_tokenizer
from hilum.training.checkpoint import load_latest_checkpoint
from hilum.training.pretrain import pretrain
from tiny_runs import build_tiny, drop_timings, hash_weights, make_tiny_cache, read_metrics
from toy_archive import make_cache

KEPT = ("report_decoder.safetensors", "tokenizer.json")


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Cache:
    return make_tiny_cache(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def finished(cache: Cache, tmp_path_factory: pytest.TempPathFactory) -> tuple[Config, Path]:
    """A run of 12 steps, and its config."""
    config = build_tiny("mvmae_v2t")
    return config, pretrain(config, cache.path, tmp_path_factory.mktemp("runs") / "finished")


def test_a_run_keeps_its_report_decoder_and_tokenizer(finished: tuple[Config, Path], cache: Cache) -> None:
    config, out = finished
    tokens = open_report_tokens(cache, config.text)
    assert (out / "tokenizer.json").read_text() == tokens.tokenizer
    decoder, layout, header = load_report_decoder(out)
    assert layout == tokens.layout
    assert header["memory"] == "study"
    trained = load_latest_checkpoint(out / "checkpoints")
    assert trained is not None
    for name, value in decoder.state_dict().items():
        assert torch.equal(value, trained.weights[f"terms.captioning.decoder.{name}"])


def test_the_log_says_how_hard_reports_pull_and_how_well_they_are_known(finished: tuple[Config, Path]) -> None:
    lines = read_metrics(finished[1])
    assert lines[-1]["captioning/loss"] < lines[0]["captioning/loss"]
    assert all(line["captioning/gradient_ratio"] > 0 for line in lines if line["step"] in (1, 2, 4, 8, 12))
    assert lines[-1]["val/captioning"] > 0
    assert {"captioning/word_by_word", "captioning/at_once"} <= set(lines[-1])


@pytest.mark.parametrize("preset", ["hilum", "code"])
def test_a_continued_run_ends_with_the_same_bits(preset, cache: Cache, tmp_path: Path) -> None:
    """Also with dropout, whose draws no checkpoint holds."""
    config = build_tiny("mvmae_v2t", preset, epochs=2.0, checkpoint_every=2)
    straight = pretrain(config, cache.path, tmp_path / "straight")
    shutil.copytree(straight, tmp_path / "run")
    for name in ("weights.safetensors", *KEPT):
        (tmp_path / "run" / name).unlink()
    last = sorted((tmp_path / "run" / "checkpoints").iterdir())[-1]
    shutil.rmtree(last)
    assert load_latest_checkpoint(tmp_path / "run" / "checkpoints").step >= 2
    pretrain(config, cache.path, tmp_path / "run", resume=True)
    assert hash_weights(tmp_path / "run") == hash_weights(straight)
    assert drop_timings(read_metrics(tmp_path / "run")) == drop_timings(read_metrics(straight))
    for name in KEPT:
        assert (tmp_path / "run" / name).read_bytes() == (straight / name).read_bytes()


def test_accumulation_and_reports_together_change_nothing_but_rounding(cache: Cache, tmp_path: Path) -> None:
    config = build_tiny("mvmae_v2t", epochs=1.0)
    config = replace(config, terms={name: config.terms[name] for name in ("reconstruction", "captioning")})
    parts = replace(config, optim=replace(config.optim, accumulate=3))
    one, other = (pretrain(each, cache.path, tmp_path / str(each.optim.accumulate)) for each in (config, parts))
    weights = load_file(other / KEPT[0])
    for name, value in load_file(one / KEPT[0]).items():
        torch.testing.assert_close(weights[name], value, rtol=0, atol=2e-5, msg=name)


def count_reports(cache: Cache) -> int:
    """Test studies with a report."""
    return sum(sections is not None and len(sections) > 0 for sections in cache.table()["sections"][cache.rows("test")])


@pytest.mark.parametrize("beam", [1, 2])
def test_describe_writes_a_row_for_every_study(
    finished: tuple[Config, Path], cache: Cache, tmp_path: Path, beam: int, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "reports.parquet"
    words = ["describe", str(finished[1]), "--data", str(cache.path), "--out", str(out), "--beam", str(beam)]
    assert main(words) == 0
    frame = pl.read_parquet(out)
    assert frame["study"].to_list() == cache.table()["study"][cache.rows("test")].to_list()
    named = ["dataset", "study", "group", "split", "text", "score", "num_tokens", "ended", "names_no_finding"]
    assert frame.columns == named
    silent = int(frame["names_no_finding"].sum())
    assert silent == sum(label_report(text) == {"No Finding": 1} for text in frame["text"])
    assert frame["score"].max() < 0
    assert (frame["ended"] | (frame["num_tokens"] == 32)).all()
    said = capsys.readouterr().out
    assert "6 reports, " in said
    assert "0 of the 3 real reports name no finding, present or absent, and so count" in " ".join(said.split())
    assert said.endswith(f"written: {out}\n")
    assert "Against the real reports, in percent" in said
    scored = [line.split("│")[2:] for line in said.splitlines() if line.count("│") > 5]
    assert [line[0].strip() for line in scored] == ["written", "written, dealt", "real, dealt"]
    assert {line[1].strip() for line in scored} == {str(count_reports(cache))}
    assert all(float(line[3]) >= 0 for line in scored)
    assert "The heart is" in said  # the real one, beside
    assert "The heart is" not in "".join(frame["text"].to_list())
    assert main(words) == 0  # its own file may be replaced


def test_a_presets_report_decoder_writes_too(cache: Cache, tmp_path: Path) -> None:
    """The released decoder reads another module's table of view kinds, which is kept with it."""
    for preset in ("paper", "code"):
        config = build_tiny("mvmae_v2t", preset, epochs=0.5)
        out = pretrain(config, cache.path, tmp_path / preset)
        table = load_file(out / KEPT[0])["view_embed"]
        trained = load_latest_checkpoint(out / "checkpoints").weights
        owner = "encoder" if preset == "paper" else "terms.reconstruction.decoder"
        assert torch.equal(table, trained[f"{owner}.view_embed"])
        frame = describe_studies(out, cache.path, tmp_path / f"{preset}.parquet", split="val", num_examples=0)
        assert len(frame) == len(cache.rows("val"))


def test_another_studys_reports_are_the_control(cache: Cache, tmp_path: Path, capfd) -> None:
    config = build_tiny("mvmae_v2t", epochs=0.5)
    shuffled = replace(config, data=replace(config.data, shuffle_reports=True))
    outs = [pretrain(each, cache.path, tmp_path / name) for name, each in (("own", config), ("other", shuffled))]
    assert "every study has another's" in capfd.readouterr().err
    first, second = (read_metrics(out)[0] for out in outs)
    assert first["reconstruction/loss"] == second["reconstruction/loss"]
    assert first["captioning/loss"] != second["captioning/loss"]


def test_runs_without_reports_are_told_so(cache: Cache, finished: tuple[Config, Path], tmp_path: Path) -> None:
    (tmp_path / "plain").mkdir()
    plain = make_cache(tmp_path / "plain", [1, 2] * 6, split=["train"] * 12)
    with pytest.raises(UserError, match=r"no study of the training split has a section.*take the recipe `mvmae`"):
        pretrain(build_tiny("mvmae_v2t"), plain.path, tmp_path / "run")
    with pytest.raises(UserError, match="is in the split test"):
        describe_studies(finished[1], plain.path, tmp_path / "x.parquet")
    out = pretrain(build_tiny("mvmae", epochs=0.3), cache.path, tmp_path / "silent")
    with pytest.raises(UserError, match=r"learned from no reports.*mvmae_v2t"):
        describe_studies(out, cache.path, tmp_path / "x.parquet")
    damaged = tmp_path / "damaged"
    shutil.copytree(finished[1], damaged)
    whole = (damaged / "tokenizer.json").read_text()
    train_tokenizer(["no effusion"] * 9, 300).save(str(damaged / "tokenizer.json"))
    with pytest.raises(UserError, match=r"tokenizer\.json: has \d+ tokens and the report decoder \d+: it is another"):
        describe_studies(damaged, cache.path, tmp_path / "x.parquet")
    (damaged / "tokenizer.json").write_text(whole[:-9])
    with pytest.raises(UserError, match=r"tokenizer\.json: not a tokenizer.*Copy it again"):
        describe_studies(damaged, cache.path, tmp_path / "x.parquet")
    (damaged / "tokenizer.json").unlink()
    with pytest.raises(UserError, match=r"tokenizer\.json is missing"):
        describe_studies(damaged, cache.path, tmp_path / "x.parquet")
    (damaged / KEPT[0]).write_bytes((damaged / KEPT[0]).read_bytes()[:-8])
    with pytest.raises(UserError, match="not a whole report decoder"):
        load_report_decoder(damaged)


@pytest.mark.parametrize("split", ["test", "val"])
def test_no_report_is_written_of_images_that_were_learned_from(
    split, cache: Cache, finished: tuple[Config, Path], tmp_path: Path
) -> None:
    leaked = tmp_path / "leaked"
    shutil.copytree(finished[1], leaked)
    tested = fingerprint_studies(cache.table()[cache.rows(split)]).pixels
    seen = json.loads((leaked / "pretraining.json").read_text())
    (leaked / "pretraining.json").write_text(json.dumps({**seen, "images": [*seen["images"], *sorted(tested)]}))
    with pytest.raises(UserError, match=rf"Leak: .* of the {split} split .* were in the pretraining"):
        describe_studies(leaked, cache.path, tmp_path / "x.parquet", split=split)
    assert not (tmp_path / "x.parquet").exists()


def test_a_given_vocabulary_is_part_of_the_settings(
    cache: Cache, finished: tuple[Config, Path], tmp_path: Path
) -> None:
    vocabulary = tmp_path / "tokenizer.json"
    shutil.copy(finished[1] / "tokenizer.json", vocabulary)
    config = build_tiny("mvmae_v2t", epochs=0.3)
    out = pretrain(config, cache.path, tmp_path / "run", vocabulary=vocabulary)
    named = Tokenizer.from_file(str(out / "tokenizer.json")).get_vocab()
    assert named == Tokenizer.from_file(str(vocabulary)).get_vocab()
    assert np.array_equal(
        open_report_tokens(cache, replace(config.text, vocabulary=None)).tokens,
        open_report_tokens(cache, replace(config.text, vocabulary=hash_file(vocabulary))).tokens,
    )


def test_a_run_with_a_given_vocabulary_continues_without_a_word_on_it(cache: Cache, tmp_path: Path) -> None:
    vocabulary, out = tmp_path / "tokenizer.json", tmp_path / "run"
    train_tokenizer(["no effusion"] * 9, 300).save(str(vocabulary))  # not what the cache's reports would teach
    config = build_tiny("mvmae_v2t", epochs=1.0, checkpoint_every=1)
    pretrain(config, cache.path, out, vocabulary=vocabulary)
    before = (out / "tokenizer.json").read_text()
    for name in ("weights.safetensors", *KEPT):
        (out / name).unlink()
    shutil.rmtree(sorted((out / "checkpoints").iterdir())[-1])
    pretrain(config, cache.path, out, resume=True)
    assert (out / "tokenizer.json").read_text() == before
    assert load_report_decoder(out)[1].num_words == Tokenizer.from_str(before).get_vocab_size() < 297


def test_a_decoder_that_never_wrote_word_by_word_is_not_asked_to(
    finished: tuple[Config, Path], cache: Cache, tmp_path: Path
) -> None:
    config, out = finished
    shutil.copytree(out, tmp_path / "run")
    terms = config.terms | {"captioning": replace(config.terms["captioning"], parallel=1.0)}
    (tmp_path / "run" / "config.json").write_text(dump_config(replace(config, terms=terms)))
    with pytest.raises(UserError, match=r"all predicted at once \(captioning\.parallel of 1\)"):
        describe_studies(tmp_path / "run", cache.path, tmp_path / "texts.parquet", split="val")
    assert not (tmp_path / "texts.parquet").exists()


def test_a_section_that_no_study_has_is_said(cache: Cache, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    config = build_tiny("mvmae_v2t")
    text = replace(config.text, sections=("findings", "impresion"))
    config = replace(config, text=text, optim=replace(config.optim, steps=1))
    assert list_absent_sections(cache, config.text) == ["impresion"]
    pretrain(config, cache.path, tmp_path / "run")
    assert "warning: text.sections: no study of the cache has impresion" in "".join(capfd.readouterr()).replace(
        "\n", " "
    )
