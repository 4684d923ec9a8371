"""The whole road by the commands a user types, without network, and its report in a real browser (M 8 item 32)."""

from __future__ import annotations

import json
import re
import socket
from pathlib import Path

import polars as pl
import pytest
from playwright.sync_api import sync_playwright

from hilum.cli import main
from hilum.evaluate.result import read_result

_TINY = (
    "--size tiny --encoder.width 48 --encoder.depth 2 --encoder.heads 2 --encoder.image-size 32 --encoder.patch-size 8 "
    "--mask.ratio 0.75 --data.views-per-step 16 --optim.steps 10 --optim.lr 1e-3"
)
_CONNECT = socket.socket.connect


@pytest.fixture(scope="module")
def road(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Phantom, ingest, cache, pretrain, probe, fine-tuning, embedding and report, with every socket refused."""
    folder = tmp_path_factory.mktemp("road")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", _refuse)
        patch.chdir(folder)
        for command in (
            "phantom --out archive --studies 60 --size 96 --workers 2",
            "ingest table archive/studies.csv --out studies.parquet --salt the-same-splits",
            "cache studies.parquet --out cache --workers 1 --short-side 64 --fractions 0.4 0.1 0.5",
            f"pretrain mvmae --data cache --out run {_TINY}",
            "probe run --data cache --seeds 1",
            "finetune run --data cache --epochs 2",
            "embed run --data cache --out vectors.parquet --representation class 2x2",
            "report studies.parquet cache run run/probe run/finetune --out report.html",
        ):
            assert main(command.split()) == 0, command
    return folder


def _refuse(self: socket.socket, address: str) -> None:
    assert self.family == socket.AF_UNIX, f"something wants to connect to {address}"
    return _CONNECT(self, address)  # worker processes talk to their parent


def test_every_step_leaves_what_it_promises(road: Path) -> None:
    assert (road / "run" / "weights.safetensors").exists()
    lines = [json.loads(line) for line in (road / "run" / "metrics.jsonl").read_text().splitlines()]
    assert lines[-1]["step"] == 10
    assert any("alignment/gradient_ratio" in line for line in lines)
    summary = json.loads((road / "run" / "probe" / "probe.json").read_bytes())
    assert [arm["role"] for arm in summary["arms"]] == ["encoder", "untrained", "pixels", "shuffled"]
    results = list((road / "run" / "finetune").rglob("result.json"))
    assert len(results) == 1
    protocol = read_result(results[0]).protocol
    assert protocol["kind"] == "fine-tuning"
    assert len(protocol["history"]) == 2  # at least one step each


def test_embeddings_have_a_row_for_each_image(road: Path) -> None:
    vectors = pl.read_parquet(road / "vectors.parquet")
    table = pl.read_parquet(road / "cache" / "studies.parquet")
    assert len(vectors) == table["views"].list.len().sum()
    assert vectors["class_token"].dtype == pl.Array(pl.Float32, 48)
    assert vectors["regions_2x2"].dtype == pl.Array(pl.Float32, 4 * 48)


def test_results_name_no_place_on_this_machine(road: Path) -> None:
    for path in [*road.rglob("result.json"), *road.rglob("config.json"), *road.rglob("environment.json")]:
        assert str(road) not in path.read_text(), path.name


def test_report_needs_nothing_outside_itself(road: Path) -> None:
    page = (road / "report.html").read_text()
    assert not re.findall(r'(?:src|href)="(?!#|data:)[^"]*"', page)
    assert "url(" not in page.replace("url(#", "")


@pytest.mark.needs_chromium
def test_report_opens_in_a_browser(road: Path, chromium: str) -> None:
    requested, complaints = [], []
    with sync_playwright() as play:
        browser = play.chromium.launch(
            executable_path=chromium, args=["--no-sandbox", "--disable-background-networking", "--disable-sync"]
        )
        page = browser.new_page(viewport={"width": 390, "height": 844})  # a phone
        page.on("request", lambda request: requested.append(request.url))
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto((road / "report.html").as_uri())
        headings = page.locator("h2").all_inner_texts()
        drawn = page.locator("figure svg").count()
        broken = page.evaluate("[...document.images].filter(i => !i.complete || !i.naturalWidth).length")
        overflow = page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
        browser.close()
    assert [text.split(":")[0] for text in headings] == [
        "The study table studies.parquet",
        "The archive",
        "Pretraining",
        "What the features know",
        "Fine-tuning",
    ]
    assert drawn >= 6
    assert broken == 0
    assert overflow <= 0, "the page is wider than a phone"
    assert [url for url in requested if not url.startswith(("file:", "data:"))] == []
    assert complaints == []
