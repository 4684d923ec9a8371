"""Decoders of reports: what a word may see, where image tokens are, and when writing ends."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from batches import make_batch
from hilum.config import EncoderConfig
from hilum.config import ReleasedReportDecoder as ReleasedConfig
from hilum.config import ReportDecoder as ReportConfig
from hilum.model.masking import draw_masks
from hilum.model.report_decoder import (
    Memory,
    ReleasedReportDecoder,
    ReportDecoder,
    build_report_decoder,
    join_views,
    swap_positions,
)
from hilum.model.write_reports import write_reports
from hilum.recipes import build_recipe
from hilum.text.report_tokens import TextLayout, assume_layout

ENCODER = EncoderConfig(image_size=32, patch_size=8, width=16, depth=1, heads=2)
LAYOUT = TextLayout(num_words=20, pad=0, start=2, end=3, length=6, longest=6)
CONFIGS: dict[str, Any] = {
    "hilum": ReportConfig(16, 2, 2),
    "paper": ReleasedConfig(16, 2, 2),
    "code": ReleasedConfig(16, 2, 2, dropout=0.1, text_positions=False, swapped_positions=True),
}


def build(name: str):
    torch.manual_seed(0)
    return build_report_decoder(CONFIGS[name], ENCODER, LAYOUT).eval()


def make_memory(rows: int, present: torch.Tensor | None = None) -> Memory:
    return Memory(torch.randn(rows, 5, 16, generator=torch.Generator().manual_seed(1)), present)


def test_the_released_decoder_has_the_released_parameters() -> None:
    config = build_recipe("mvmae_v2t", "code", "base")
    with torch.device("meta"):
        decoder = build_report_decoder(config.terms["captioning"].decoder, config.encoder, assume_layout(config.text))
    assert sum(parameter.numel() for parameter in decoder.parameters()) == 70_637_568
    shapes = {name: tuple(value.shape) for name, value in decoder.named_parameters()}
    assert shapes["pos_embedding"] == (197, 1, 768)
    assert shapes["inp_vocabulary.weight"] == shapes["out_head.weight"] == (30522, 768)
    assert shapes["decoder.layers.3.multihead_attn.in_proj_weight"] == (2304, 768)
    assert not [name for name in shapes if name.endswith("bias") and name != "decoder.norm.bias"]


@pytest.mark.parametrize("init", ["xavier", "released"])
def test_layers_of_the_released_decoder_start_from_numbers_of_their_own(init: Any) -> None:
    decoder = build_report_decoder(CONFIGS["paper"], replace(ENCODER, init=init), LAYOUT)
    assert isinstance(decoder, ReleasedReportDecoder)
    first, second = (dict(layer.named_parameters()) for layer in decoder.decoder.layers)
    same = [name for name, value in first.items() if "norm" not in name and torch.equal(value, second[name])]
    assert same == []


@pytest.mark.parametrize("name", CONFIGS)
def test_a_word_changes_nothing_before_it(name: str) -> None:
    decoder, memory = build(name), make_memory(2)
    words = torch.tensor([[2, 5, 6, 7, 8], [2, 9, 10, 11, 12]])
    with torch.no_grad():
        before = decoder(words, memory)
        for place in range(5):
            changed = words.clone()
            changed[:, place] = 15
            after = decoder(changed, memory)
            assert torch.equal(after[:, :place], before[:, :place])
            assert not torch.allclose(after[:, place], before[:, place])


@pytest.mark.parametrize("name", CONFIGS)
def test_tokens_that_only_fill_up_are_not_seen(name: str) -> None:
    decoder, words = build(name), torch.tensor([[2, 5, 6]])
    memory = make_memory(1)
    present = torch.tensor([[True, True, True, False, False]])
    with torch.no_grad():
        filled = decoder(words, Memory(memory.tokens, present))
        noise = torch.where(present[..., None], memory.tokens, 100.0)
        torch.testing.assert_close(decoder(words, Memory(noise, present)), filled)
        torch.testing.assert_close(decoder(words, Memory(memory.tokens[:, :3], None)), filled)
        assert not torch.allclose(decoder(words, memory), filled)


def find_positions(name: str, visible: torch.Tensor, encoder: EncoderConfig = ENCODER) -> list[int]:
    """Which row of the position table each visible token gets, told by a table that numbers its rows."""
    decoder = build_report_decoder(CONFIGS[name], encoder, LAYOUT)
    table = decoder.pos_embed if isinstance(decoder, ReportDecoder) else decoder.pos_embedding
    with torch.no_grad():
        table.copy_(torch.arange(1.0 * table.numel() // 16).reshape(table.shape[0], table.shape[1], 1).expand_as(table))
        decoder.view_embed.zero_()
    placed = decoder.place(torch.zeros(1, 1 + visible.shape[1], 16), visible, torch.zeros(1, dtype=torch.int64))
    assert int(placed[0, 0, 0]) == 0  # the class token has a row of its own
    return [int(row) - 1 for row in placed[0, 1:, 0]]


def test_every_image_token_carries_its_own_position_but_in_the_released_code() -> None:
    visible = torch.tensor([[1, 5, 11, 14]])
    assert find_positions("hilum", visible) == find_positions("paper", visible) == [1, 5, 11, 14]
    # By hand: visible patches first, then the others: patches 0, 1, 2, 3 stand at 4, 0, 5, 6, and none is right.
    assert find_positions("code", visible) == [4, 0, 5, 6]


@pytest.mark.parametrize(("name", "right"), [("hilum", 13), ("paper", 13), ("code", 0)])
def test_thirteen_of_thirteen_are_at_their_own_position(name: str, right: int) -> None:
    """M 8-22: at the ratio and with the patches of the paper, as the decoder itself places them."""
    encoder = replace(ENCODER, image_size=ENCODER.patch_size * 14)
    visible = draw_masks(make_batch([1], size=8), num_patches=196, ratio=0.93, seed=2).visible
    assert visible.shape == (1, 13)
    found = find_positions(name, visible, encoder)
    assert sum(row == patch for row, patch in zip(found, visible[0].tolist(), strict=True)) == right


def test_none_of_thirteen_is_right_in_the_released_code() -> None:
    batch = make_batch([1] * 200, size=8)
    visible = draw_masks(batch, num_patches=196, ratio=0.93, seed=0).visible
    assert visible.shape == (200, 13)
    right = (swap_positions(visible, 196) == visible).sum(dim=1)
    assert int(right.mode().values) == 0
    assert float(right.float().mean()) < 2 * 13 / 196  # a random permutation is right in 1 of 196 places


def test_memory_of_a_study_is_all_its_views_in_any_order() -> None:
    batch, tokens = make_batch([2, 1], size=8), torch.randn(3, 5, 16)
    memory = join_views(tokens, batch)
    assert memory.tokens.shape == (2, 10, 16)
    assert memory.present.sum(dim=1).tolist() == [10, 5]
    decoder, words = build("hilum"), torch.tensor([[2, 5], [2, 6]])
    with torch.no_grad():
        turned = join_views(tokens[[1, 0, 2]], batch)
        torch.testing.assert_close(decoder(words, turned), decoder(words, memory))


def test_view_kinds_are_told_apart() -> None:
    decoder, tokens, visible = build("hilum"), torch.zeros(2, 3, 16), torch.tensor([[1, 4], [1, 4]])
    placed = decoder.place(tokens, visible, torch.tensor([0, 1]))
    torch.testing.assert_close(placed[0] - placed[1], (decoder.view_embed[0] - decoder.view_embed[1]).expand(3, -1))


def test_another_modules_view_vectors_are_added_to_every_token() -> None:
    decoder = build_report_decoder(replace(CONFIGS["paper"], view_table="encoder"), ENCODER, LAYOUT)
    tokens, visible, vectors = torch.zeros(2, 3, 16), torch.tensor([[1, 4], [1, 4]]), torch.randn(2, 16)
    placed = decoder.place(tokens, visible, torch.tensor([0, 1]), vectors)
    torch.testing.assert_close(placed[0] - placed[1], (vectors[0] - vectors[1]).expand(3, -1))


@pytest.mark.parametrize("dropout", [-0.1, 1.5])
def test_dropout_is_a_probability(dropout: float) -> None:
    with pytest.raises(ValidationError, match=r"dropout\n.*should be (less|greater) than or equal to"):
        ReleasedConfig(16, 2, 2, dropout=dropout)


class Scripted(ReportDecoder):
    """A decoder that gives fixed probabilities to the next word, by the place and the memory's first number."""

    def __init__(self, script: dict[tuple[int, ...], dict[int, float]]) -> None:
        super().__init__(ReportConfig(16, 1, 2), ENCODER, LAYOUT._replace(num_words=16))
        self.script = script
        with torch.no_grad():
            self.word_embed.copy_(torch.eye(16))

    def forward(self, words: torch.Tensor, memory: Memory) -> torch.Tensor:
        hidden = torch.full((*words.shape, 16), -20.0)
        for row, beginning in enumerate(words[:, 1:].tolist()):
            for word, share in self.script.get(tuple(beginning), {3: 1.0}).items():
                hidden[row, -1, word] = torch.tensor(share).log()
        return hidden


def test_writing_stops_at_the_end_and_a_beam_finds_the_likelier_text() -> None:
    script = {(): {5: 0.6, 6: 0.4}, (5,): {7: 0.55, 8: 0.45}, (6,): {9: 1.0}, (5, 7): {3: 1.0}, (6, 9): {3: 1.0}}
    decoder = Scripted(script).eval()
    greedy, beam = (write_reports(decoder, LAYOUT, make_memory(1), torch.tensor([0]), 1, beam=n)[0] for n in (1, 2))
    assert greedy.tokens == [5, 7]
    assert greedy.ended
    assert beam.tokens == [6, 9]  # 0.4 > 0.6 x 0.55
    assert beam.score == pytest.approx(torch.tensor(0.4).log().item() / 3, abs=1e-4)  # two words and the end


def test_texts_end_each_for_itself_and_are_cut_at_the_limit() -> None:
    endless = {tuple([5] * n): {5: 1.0} for n in range(10)}
    writing = write_reports(Scripted(endless).eval(), LAYOUT, make_memory(2), torch.tensor([0, 1]), 2)
    assert [(one.tokens, one.ended) for one in writing] == [([5] * 6, False)] * 2
    (empty,) = write_reports(Scripted({}).eval(), LAYOUT, make_memory(1), torch.tensor([0]), 1, beam=3)
    assert (empty.tokens, empty.ended) == ([], True)
    for name in CONFIGS:
        texts = write_reports(build(name), LAYOUT, make_memory(4), torch.tensor([0, 0, 1, 2]), 3, beam=2)
        assert all(one.ended or len(one.tokens) == LAYOUT.length for one in texts)
        assert not {LAYOUT.pad, LAYOUT.start, LAYOUT.end} & {word for one in texts for word in one.tokens}


def test_what_is_written_does_not_depend_on_the_batch() -> None:
    decoder, memory = build("hilum"), make_memory(4)
    owner = torch.tensor([0, 0, 1, 2])
    together = write_reports(decoder, LAYOUT, memory, owner, 3, beam=2)
    for text in range(3):
        rows = owner == text
        alone = write_reports(decoder, LAYOUT, memory.take(rows), torch.zeros(int(rows.sum()), dtype=torch.int64), 1, 2)
        assert alone[0].tokens == together[text].tokens
        assert alone[0].score == pytest.approx(together[text].score, abs=1e-5)
