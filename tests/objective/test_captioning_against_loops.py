"""The report term, its decoder and its search against slow loops written from the specification alone."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import captioning_loops as loops
import numpy as np
import pytest
import torch
from captioning_loops import IGNORED

from batches import make_batch
from hilum.batch import Texts
from hilum.config import Captioning as CaptioningConfig
from hilum.config import EncoderConfig, ReleasedReportDecoder
from hilum.config import ReportDecoder as ReportDecoderConfig
from hilum.model.encoder import Encoder
from hilum.model.masking import Mask, draw_masks
from hilum.model.report_decoder import Memory, ReportDecoder, build_report_decoder, swap_positions
from hilum.model.write_reports import write_reports
from hilum.objective.captioning import Captioning, average_tokens, list_targets, measure_token_losses
from hilum.objective.released_captioning import overwrite_targets, share_slot_losses, sum_over_slots
from hilum.text.report_tokens import PLACEHOLDER, TextLayout

ENCODER = EncoderConfig(image_size=32, patch_size=8, width=12, depth=1, heads=2)
LAYOUT = TextLayout(num_words=11, pad=0, start=2, end=3, length=7, longest=6)
HILUM = CaptioningConfig(decoder=ReportDecoderConfig(8, 2, 2, 3.0), parallel=0.0)
CODE = CaptioningConfig(
    decoder=ReleasedReportDecoder(12, 2, 2, text_positions=False, swapped_positions=True),
    memory="view", parallel=0.0, average="slot",
)  # fmt: skip


def shake(module: torch.nn.Module, seed: int) -> None:
    """Weights under which every part counts: norms and biases start as ones and zeros."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for value in module.parameters():
            value.copy_(torch.randn(value.shape, generator=generator) * 0.4 + value)


def build_decoder(seed: int = 0, layout: TextLayout = LAYOUT) -> ReportDecoder:
    decoder = build_report_decoder(HILUM.decoder, ENCODER, layout).eval()
    assert isinstance(decoder, ReportDecoder)
    shake(decoder, seed)
    return decoder


def copy_decoder(decoder: ReportDecoder) -> loops.Decoder:
    """The module's weights as the loops want them; the last row of words is the one that hides a word."""

    def linear(weight: torch.Tensor, bias: torch.Tensor) -> loops.Linear:
        return loops.Linear(weight.detach().double().numpy(), bias.detach().double().numpy())

    def split(layer: torch.nn.Linear, parts: int) -> list[loops.Linear]:
        return [linear(*both) for both in zip(layer.weight.chunk(parts), layer.bias.chunk(parts), strict=True)]

    def norm(layer: torch.nn.LayerNorm) -> loops.Norm:
        return loops.Norm(*linear(layer.weight, layer.bias))

    layers = []
    for block in decoder.blocks:
        cross = block.cross
        own = loops.Attention(*split(block.attn.qkv, 3), *split(block.attn.proj, 1), heads=2)
        other = loops.Attention(*split(cross.query, 1), *split(cross.key_value, 2), *split(cross.proj, 1), heads=2)
        mlp = (*split(cross.mlp.fc1, 1), *split(cross.mlp.fc2, 1))
        layers.append(
            loops.Layer(norm(block.norm), own, norm(cross.norm1), norm(cross.key_norm), other, norm(cross.norm2), *mlp)
        )
    words = torch.cat([decoder.word_embed, decoder.mask_token[0]]).detach().double().numpy()
    return loops.Decoder(words, decoder.text_pos_embed.detach().double().numpy(), layers, norm(decoder.norm))


def decode(slow: loops.Decoder, inputs: list[int], memory: torch.Tensor, causal: bool = True) -> np.ndarray:
    """Scores of real words only."""
    return loops.decode_slowly(slow, inputs, memory.detach().double().numpy(), causal)[:, :-1]


def test_the_decoder_is_the_slow_one_word_by_word_and_at_once() -> None:
    decoder, memory = build_decoder(), torch.randn(2, 5, 12, generator=torch.Generator().manual_seed(1))
    slow, words = copy_decoder(decoder), torch.tensor([[2, 5, 5, 0, 10], [2, 9, 1, 4, 4]])
    present = torch.tensor([[True] * 5, [True, False, True, True, False]])
    with torch.no_grad():
        found = decoder(words, Memory(memory, present)) @ decoder.words.T
        at_once = decoder.predict_at_once(4, Memory(memory, present)) @ decoder.words.T
    for row in range(2):
        seen = memory[row][present[row]]
        np.testing.assert_allclose(found[row], decode(slow, words[row].tolist(), seen), atol=1e-4)
        np.testing.assert_allclose(at_once[row], decode(slow, [11] * 4, seen, causal=False), atol=1e-4)


def list_labels(texts: Texts, text: int, *, length: int, end_counts: bool = True) -> loops.Labels:
    words = texts.tokens[text, 1 : int(texts.length[text])].tolist()
    if not end_counts and words[-1] == LAYOUT.end:
        words[-1] = IGNORED
    return words + [IGNORED] * (length - len(words))


@pytest.mark.parametrize("average", ["text", "view"])
@pytest.mark.parametrize("memory", ["study", "view"])
@pytest.mark.parametrize("parallel", [0.0, 0.5, 1.0])
def test_the_term_is_the_mean_of_the_loops(average, memory, parallel: float) -> None:
    """Words of each text, as all views or each view tells it; texts of one word, of the longest and none at all."""
    if (average, memory) == ("view", "study"):
        average = "text"  # check_effects refuses the other
    torch.manual_seed(0)
    encoder = Encoder(ENCODER)
    term = Captioning(replace(HILUM, average=average, memory=memory, parallel=parallel), ENCODER, LAYOUT, seed=0)
    shake(term, 3)
    batch = make_batch([2, 1, 4, 1], words=[[5, 6], None, [7, 8, 9, 10, 4], [4]])
    mask = draw_masks(batch, num_patches=16, ratio=0.75, seed=0)
    features = encoder.encode(batch.pixels, batch.view_kind, mask)
    found = term(features, mask, batch, lambda rows: rows)["loss"]
    hides = term._draw_parallel(batch).tolist()
    assert parallel in (0.0, 1.0) or set(hides) == {False, True}
    slow, placed = copy_decoder(term.decoder), place_slowly(term.decoder, features.tokens, mask, batch.view_kind)
    losses: list[list[float | None]] = [[] for _ in range(4)]
    for text, study in enumerate(batch.texts.owner.tolist()):
        views = [placed[view] for view in (batch.study == study).nonzero()[:, 0].tolist()]
        labels = list_labels(batch.texts, text, length=LAYOUT.longest)
        inputs = [LAYOUT.num_words] * LAYOUT.longest if hides[text] else batch.texts.tokens[text].tolist()
        labels = labels[: len(inputs)] + [IGNORED] * (len(inputs) - len(labels))
        for seen in views if memory == "view" else [torch.cat(views)]:
            logits = decode(slow, inputs, seen, causal=not hides[text])
            losses[study].append(loops.cross_entropy_of_text(logits.tolist(), labels))
    wanted = loops.mean_over_texts(losses) if average == "view" else loops.mean_over_views_of_studies(losses)
    assert float(found.value.detach() / found.count) == pytest.approx(wanted, rel=1e-4)


def place_slowly(decoder: ReportDecoder, tokens: torch.Tensor, mask: Mask, view_kind: torch.Tensor) -> torch.Tensor:
    """Each token with the vector of its own patch (row 0: the class token's) and of its view's kind."""
    placed = tokens.clone()
    for view in range(len(tokens)):
        shuffled = mask.visible[view].tolist() + mask.masked[view].tolist()
        for token, row in enumerate(loops.positions_of_memory(shuffled, mask.visible.shape[1])):
            placed[view, token] += decoder.pos_embed[0, row] + decoder.view_embed[view_kind[view]]
    return placed.detach()


def test_mean_over_the_real_tokens_of_each_text() -> None:
    generator = torch.Generator().manual_seed(0)
    texts = make_batch([1, 1, 1], words=[[5], [6, 7, 8], []]).texts
    targets, hidden = list_targets(texts), torch.randn(3, 4, 8, generator=generator)
    words = torch.randn(LAYOUT.num_words, 8, generator=generator)
    row, place = targets.counted.nonzero().T
    found = average_tokens(measure_token_losses(hidden[row, place], words, targets.tokens[row, place]), row, 3)
    for text in range(3):
        logits, labels = (hidden[text] @ words.T).tolist(), list_labels(texts, text, length=4)
        assert float(found[text]) == pytest.approx(loops.cross_entropy_of_text(logits, labels), rel=1e-5)


def test_positions_by_the_permutation_and_the_released_codes_by_its_inverse() -> None:
    batch = make_batch([1] * 30, size=8)
    mask = draw_masks(batch, num_patches=196, ratio=0.93, seed=0)
    wrong = swap_positions(mask.visible, 196)
    num_right = []
    for view in range(30):
        # As it restores the order of hidden patches nowhere, theirs is taken as rising.
        shuffled = mask.visible[view].tolist() + sorted(mask.masked[view].tolist())
        found = loops.code_positions_of_memory(shuffled, 13)
        assert (1 + wrong[view]).tolist() == found[1:]
        num_right.append(loops.count_own_positions(shuffled, 13, found))
    assert np.median(num_right) == 0


def test_labels_are_overwritten_as_the_released_code_does() -> None:
    labels = [5, 6, 7]
    tokens, counted = torch.tensor([[5, 6, 7, 3]] * 3), torch.tensor([[True, True, True, False]] * 3)
    found, is_target = overwrite_targets(tokens, counted, torch.arange(3), length=7, pad=loops.PAD)
    expected = loops.code_labels_of_slots(labels + [IGNORED] * 4, 3)
    assert torch.where(is_target, found, IGNORED).tolist() == expected


@pytest.mark.parametrize("available", [[1, 0, 1, 1], [1, 1, 1, 1], [0, 0, 0, 0]])
def test_availability_is_multiplied_as_the_released_code_does(available: list[int]) -> None:
    """M 8-24 among them: 19.875 of each of three slots."""
    losses = [[1.0, 100.0, 2.0, 3.0], [5.0, 6.0, 7.0, 8.0], [0.5, 0.25, 4.0, 2.0]]
    slot, there = torch.arange(12) % 3, torch.tensor(available, dtype=torch.bool).repeat_interleave(3)
    shares = share_slot_losses(torch.tensor(losses).T.flatten(), slot, *sum_over_slots(slot, there, lambda rows: rows))
    wanted = loops.code_report_term([available] * 3, losses)  # halved there, by the weight here (recipes.py)
    assert float(shares.sum()) / 4 / 2 == pytest.approx(wanted)
    if available == [1, 0, 1, 1]:
        assert loops.code_broadcast_loss(available, losses[0]) == 19.875


def test_the_released_form_as_a_whole_is_that_of_the_loops() -> None:
    torch.manual_seed(0)
    encoder, term = Encoder(ENCODER), Captioning(CODE, ENCODER, LAYOUT, seed=0)
    shake(term, 5)
    batch = make_batch([3, 3, 3], words=[[5, 6], [7, 8, 9, 10], [4]])
    section = torch.tensor([0, PLACEHOLDER, 0])
    batch = replace(batch, texts=batch.texts._replace(section=section))
    mask = draw_masks(batch, num_patches=16, ratio=0.75, seed=0)
    features = encoder.encode(batch.pixels, batch.view_kind, mask)
    found = term(features, mask, batch, lambda rows: rows)["loss"]
    placed = term.read_tokens(features, mask.visible, batch.view_kind)
    losses = [[0.0] * 3 for _ in range(3)]
    for study in range(3):
        words = batch.texts.tokens[study].tolist()
        inputs = torch.tensor([(words + [LAYOUT.pad] * LAYOUT.length)[: LAYOUT.length]])
        labels = list_labels(batch.texts, study, length=LAYOUT.length, end_counts=False)
        for slot, seen in enumerate(loops.code_labels_of_slots(labels, 3)):
            with torch.no_grad():
                memory = Memory(placed[(3 * study + slot,), ...], None)
                logits = (term.decoder(inputs, memory) @ term.decoder.words.T)[0]
            losses[slot][study] = loops.cross_entropy_of_text(logits.tolist(), seen) or 0.0
    wanted = 2 * loops.code_report_term([[1, 0, 1]] * 3, losses)
    assert float(found.value.detach() / found.count) == pytest.approx(wanted, rel=1e-4)


SHORT = LAYOUT._replace(num_words=6, length=3, longest=3)


def say_next(slow: loops.Decoder, memories: list[torch.Tensor]) -> Callable[[tuple[int, ...]], list[float]]:
    """Log-probabilities of the next word, padding and start never; views' are averaged."""
    known: dict[tuple[int, ...], list[float]] = {}

    def say(words: tuple[int, ...]) -> list[float]:
        if words not in known:
            each = []
            for memory in memories:
                scores = decode(slow, list(words), memory)[-1]
                scores[[SHORT.pad, SHORT.start]] = -math.inf
                each.append(loops.log_softmax(scores.tolist()))
            known[words] = [sum(parts) / len(parts) for parts in zip(*each, strict=True)]
        return known[words]

    return say


def score(sentence: loops.Sentence) -> float:
    return sentence.log_probability / (len(sentence.words) + sentence.ended)


@pytest.mark.parametrize("seed", range(3))
def test_searches_are_those_of_the_loops(seed: int) -> None:
    """Two studies, the first of two views: greedily, by a beam of two and three, and by one that holds everything."""
    decoder = build_decoder(seed, SHORT)
    memory = torch.randn(3, 4, 12, generator=torch.Generator().manual_seed(seed))
    slow, owner = copy_decoder(decoder), torch.tensor([0, 0, 1])
    limits = (SHORT.start, SHORT.end, SHORT.length)
    found = {beam: write_reports(decoder, SHORT, Memory(memory, None), owner, 2, beam=beam) for beam in (1, 2, 3, 300)}
    for text, rows in enumerate([[0, 1], [2]]):
        say = say_next(slow, [memory[row] for row in rows])
        wanted = {
            1: loops.generate_greedily(say, *limits),
            2: loops.generate_by_open_beam(say, *limits, width=2),
            3: loops.generate_by_open_beam(say, *limits, width=3),
            300: max(loops.enumerate_sentences(say, *limits), key=score),
        }
        for beam, sentence in wanted.items():
            writing = found[beam][text]
            assert (tuple(writing.tokens), writing.ended) == (sentence.words, sentence.ended), beam
            assert writing.score == pytest.approx(score(sentence), abs=1e-4)
