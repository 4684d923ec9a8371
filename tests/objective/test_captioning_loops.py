"""The loops of the report term by themselves, on numbers worked by hand and libraries' own functions."""

from __future__ import annotations

import math

import captioning_loops as loops
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from captioning_loops import IGNORED, Attention, Decoder, Layer, Linear, Norm


def test_cross_entropy_is_a_mean_over_real_tokens() -> None:
    """Even odds of two words, ln 2; odds of 3 to 1, ln(4/3); the third token is nobody's target."""
    logits = [[0.0, 0.0], [math.log(3.0), 0.0], [50.0, -50.0]]
    assert loops.cross_entropy_of_text(logits, [1, 0, IGNORED]) == pytest.approx((math.log(2) + math.log(4 / 3)) / 2)
    assert loops.cross_entropy_of_text(logits, [IGNORED] * 3) is None
    random = np.random.default_rng(0)
    many, labels = random.normal(size=(6, 5)), [0, 3, IGNORED, 4, 4, IGNORED]
    wanted = F.cross_entropy(torch.from_numpy(many), torch.tensor(labels))
    assert loops.cross_entropy_of_text(many.tolist(), labels) == pytest.approx(float(wanted), rel=1e-12)


def test_who_weighs_the_same() -> None:
    """Two views at 1 and 3, one view at 5, one study without a text: views (1+3+5)/3, studies (2+5)/2."""
    losses: list[list[float | None]] = [[1.0, 3.0], [5.0], [None, None]]
    assert loops.mean_over_texts(losses) == 3.0
    assert loops.mean_over_views_of_studies(losses) == 3.5
    for mean in (loops.mean_over_texts, loops.mean_over_views_of_studies):
        assert mean([[None], []]) == 0.0
    even, sure = [0.0, 0.0], [math.log(3.0), 0.0]  # one token at ln 2; three at ln(4/3): tokens are not texts
    texts = [([even], [0]), ([sure] * 3, [0] * 3)]
    assert loops.mean_over_tokens(texts) == pytest.approx((math.log(2) + 3 * math.log(4 / 3)) / 4)


def test_the_released_broadcast() -> None:
    """M 8-24."""
    available, losses = [1, 0, 1, 1], [1.0, 100.0, 2.0, 3.0]
    assert loops.mean_over_available(available, losses) == 2.0
    assert loops.code_broadcast_loss(available, losses) == 19.875
    column = torch.tensor(available, dtype=torch.float64)[:, None] * torch.tensor(losses, dtype=torch.float64)
    assert column.shape == (4, 4)
    assert float(column.mean()) == 19.875
    # Three slots of which the last is empty: (19.875 + 19.875 + 0) / 6.
    assert loops.code_report_term([available, available, [0] * 4], [losses] * 3) == pytest.approx(6.625)


def test_the_released_code_overwrites_its_labels() -> None:
    """M 2.6, bug 2: 10 of 300 tokens are targets for the first slot and 300 for the others."""
    labels = list(range(1, 11)) + [IGNORED] * 290
    first, second, third = loops.code_labels_of_slots(labels, 3)
    assert [sum(label != IGNORED for label in slot) for slot in (first, second, third)] == [10, 300, 300]
    assert first == labels
    assert second == third == list(range(1, 11)) + [loops.PAD] * 290


def test_positions_through_the_permutation_and_through_its_inverse() -> None:
    """A turn of four patches by one: patches 1, 2 and 3 come first, and the inverse says 3, 0 and 1."""
    turn = [1, 2, 3, 0]
    assert loops.invert(turn) == [3, 0, 1, 2]
    assert loops.positions_of_memory(turn, 3) == [0, 2, 3, 4]
    assert loops.code_positions_of_memory(turn, 3) == [0, 4, 1, 2]
    assert loops.count_own_positions(turn, 3, loops.positions_of_memory(turn, 3)) == 3
    assert loops.count_own_positions(turn, 3, loops.code_positions_of_memory(turn, 3)) == 0
    swap = [1, 0, 3, 2]  # its own inverse: the mistake is then none
    assert loops.count_own_positions(swap, 2, loops.code_positions_of_memory(swap, 2)) == 2


def test_a_random_permutation_leaves_hardly_a_token_its_own_position() -> None:
    """M 2.6, "0 of 13": a place is right by chance in about 2 of 196 cases, where a permutation or its square stays."""
    random = np.random.default_rng(0)
    own = []
    for _ in range(2_000):
        permutation = random.permutation(196).tolist()
        own.append(loops.count_own_positions(permutation, 13, loops.code_positions_of_memory(permutation, 13)))
    assert np.mean(own) == pytest.approx(13 * 2 / 196, abs=0.03)
    assert np.median(own) == 0


def draw_decoder(seed: int = 0, dim: int = 8, memory_dim: int = 6, heads: int = 2, bias: bool = True) -> Decoder:
    random = np.random.default_rng(seed)

    def linear(inputs: int, outputs: int) -> Linear:
        return Linear(
            random.normal(size=(outputs, inputs)) / math.sqrt(inputs), random.normal(size=outputs) if bias else None
        )

    def norm(width: int) -> Norm:
        return Norm(1 + 0.2 * random.normal(size=width), 0.2 * random.normal(size=width))

    def attention(key_dim: int) -> Attention:
        return Attention(linear(dim, dim), linear(key_dim, dim), linear(key_dim, dim), linear(dim, dim), heads)

    def layer(memory_norm: Norm | None) -> Layer:
        return Layer(
            self_norm=norm(dim),
            self_attention=attention(dim),
            cross_norm=norm(dim),
            memory_norm=memory_norm,
            cross_attention=attention(memory_dim),
            mlp_norm=norm(dim),
            mlp_in=linear(dim, 3 * dim),
            mlp_out=linear(3 * dim, dim),
        )

    layers = [layer(None), layer(norm(memory_dim))]
    return Decoder(random.normal(size=(11, dim)), random.normal(size=(9, dim)), layers, norm(dim))


def decode_by_torch(decoder: Decoder, inputs: list[int], memory: np.ndarray, causal: bool) -> np.ndarray:
    """The same by PyTorch's own layer_norm, linear and attention."""

    def tensor(array: np.ndarray | None) -> torch.Tensor | None:
        return None if array is None else torch.from_numpy(array)

    def apply(linear: Linear, rows: torch.Tensor) -> torch.Tensor:
        return F.linear(rows, torch.from_numpy(linear.weight), tensor(linear.bias))

    def normalise(norm: Norm, rows: torch.Tensor) -> torch.Tensor:
        return F.layer_norm(rows, rows.shape[-1:], tensor(norm.weight), tensor(norm.bias), norm.eps)

    def attend(attention: Attention, rows: torch.Tensor, keys: torch.Tensor, causal: bool) -> torch.Tensor:
        query, key, value = (
            apply(part, tokens).unflatten(-1, (attention.heads, -1)).transpose(0, 1)
            for part, tokens in ((attention.query, rows), (attention.key, keys), (attention.value, keys))
        )
        mixed = F.scaled_dot_product_attention(query, key, value, is_causal=causal)
        return apply(attention.out, mixed.transpose(0, 1).flatten(1))

    words, seen = torch.from_numpy(decoder.words), torch.from_numpy(memory)
    rows = words[torch.tensor(inputs)] + torch.from_numpy(decoder.positions)[: len(inputs)]
    for layer in decoder.layers:
        normed = normalise(layer.self_norm, rows)
        rows = rows + attend(layer.self_attention, normed, normed, causal)
        keys = normalise(layer.memory_norm, seen) if layer.memory_norm else seen
        rows = rows + attend(layer.cross_attention, normalise(layer.cross_norm, rows), keys, False)
        rows = rows + apply(layer.mlp_out, F.gelu(apply(layer.mlp_in, normalise(layer.mlp_norm, rows))))
    return (normalise(decoder.norm, rows) @ words.T).numpy()


@pytest.mark.parametrize("causal", [True, False], ids=["causal", "parallel"])
@pytest.mark.parametrize("bias", [True, False], ids=["biases", "no biases"])
def test_the_slow_decoder_is_pytorchs_layers(causal: bool, bias: bool) -> None:
    decoder, inputs = draw_decoder(bias=bias), [1, 5, 5, 0, 10]
    memory = np.random.default_rng(1).normal(size=(4, 6))
    found = loops.decode_slowly(decoder, inputs, memory, causal)
    np.testing.assert_allclose(found, decode_by_torch(decoder, inputs, memory, causal), atol=1e-10)


def test_the_slow_decoder_is_causal_and_reads_words_positions_and_memory() -> None:
    """M 8-25: changing word k leaves what stands before it bit-equal."""
    decoder = draw_decoder()
    memory = np.random.default_rng(1).normal(size=(4, 6))
    before = loops.decode_slowly(decoder, [1, 2, 3, 4], memory)
    after = loops.decode_slowly(decoder, [1, 2, 7, 4], memory)
    assert np.array_equal(before[:2], after[:2])
    assert (np.abs(before[2:] - after[2:]).max(axis=1) > 1e-3).all()
    first, second = loops.decode_slowly(decoder, [1, 1], memory)
    assert np.abs(first - second).max() > 1e-3
    np.testing.assert_allclose(loops.decode_slowly(decoder, [1, 2, 3, 4], memory[::-1]), before, atol=1e-12)  # a set
    assert np.abs(loops.decode_slowly(decoder, [1, 2, 3, 4], memory[:3]) - before).max() > 1e-3


END, A, B = 0, 1, 2  # 3 is the start


def say(words: tuple[int, ...]) -> list[float]:
    """After the start A at 0.6 and B at 0.4; A goes on evenly among all three, B ends at 0.9."""
    odds = {(): (0.0, 0.6, 0.4), (A,): (1 / 3, 1 / 3, 1 / 3), (B,): (0.9, 0.05, 0.05)}.get(words[1:], (0.8, 0.1, 0.1))
    return [math.log(share) if share else -math.inf for share in odds]


def test_greedy_takes_the_likeliest_word_and_stops_at_the_end() -> None:
    """A, then the first of three equals: the end; 0.6 / 3 = 0.2."""
    sentence = loops.generate_greedily(say, 3, END, 5)
    assert (sentence.words, sentence.ended) == ((A,), True)
    assert math.exp(sentence.log_probability) == pytest.approx(0.2)
    cut = loops.generate_greedily(say, 3, END, 1)
    assert (cut.words, cut.ended) == ((A,), False)
    assert math.exp(cut.log_probability) == pytest.approx(0.6)


def test_a_beam_of_two_finds_what_greedy_misses() -> None:
    """B and the end is worth 0.36, A and the end 0.2."""
    best, second = loops.generate_by_beam(say, 3, END, 5, width=2)
    assert (best.words, second.words) == ((B,), (A,))
    assert [math.exp(sentence.log_probability) for sentence in (best, second)] == pytest.approx([0.36, 0.2])


def test_beams_of_one_are_greedy_and_wide_ones_find_everything() -> None:
    random = np.random.default_rng(2)
    table = {}

    def next_word(words: tuple[int, ...]) -> list[float]:
        if words not in table:
            table[words] = loops.log_softmax(random.normal(size=4).tolist())
        return table[words]

    (one,) = loops.generate_by_beam(next_word, 3, END, 4, width=1)
    greedy = loops.generate_greedily(next_word, 3, END, 4)
    assert (one.words, one.ended) == (greedy.words, greedy.ended)
    assert one.log_probability == pytest.approx(greedy.log_probability)
    everything = loops.enumerate_sentences(next_word, 3, END, 4)
    assert sum(math.exp(sentence.log_probability) for sentence in everything) == pytest.approx(1.0)
    wide = loops.generate_by_beam(next_word, 3, END, 4, width=4**4)
    assert [sentence.words for sentence in wide] == [sentence.words for sentence in everything]


def test_a_length_power_favours_long_sentences() -> None:
    """By ln 0.36 / 2 words and ln 0.2 / 2 words nothing changes; by a longer one's share of its words it does."""
    plain = loops.generate_by_beam(say, 3, END, 3, width=12)
    longer = loops.generate_by_beam(say, 3, END, 3, width=12, length_power=4.0)
    assert plain[0].words == (B,)
    assert len(longer[0].words) > 1


def test_bleu_of_hand_counted_words() -> None:
    """The classic: seven times "the" against two; then one of five words and a shorter sentence."""
    assert loops.score_bleu([["the"] * 7], [["the", "cat", "is", "on", "the", "mat"]], size=1) == pytest.approx(2 / 7)
    candidate, reference = ["no", "acute", "pleural", "effusion"], ["no", "acute", "pleural", "effusion", "seen"]
    assert loops.score_bleu([candidate], [reference]) == pytest.approx(math.exp(1 - 5 / 4))
    # "no large pleural effusion seen": precisions 4/5, 2/4, 1/3 and 0/2; three of them make BLEU-3.
    assert loops.score_bleu([["no", "large", "pleural", "effusion", "seen"]], [reference]) == 0.0
    three = loops.score_bleu([["no", "large", "pleural", "effusion", "seen"]], [reference], size=3)
    assert three == pytest.approx((4 / 5 * 2 / 4 * 1 / 3) ** (1 / 3))


def test_bleu_is_sacrebleus() -> None:
    sacrebleu = pytest.importorskip("sacrebleu")
    random = np.random.default_rng(0)
    words = np.array(["no", "acute", "effusion", "heart", "size", "normal", "lungs", "clear"])
    references = [random.choice(words, size=random.integers(4, 12)) for _ in range(100)]
    candidates = [
        np.where(random.random(len(one)) < 0.2, random.choice(words, size=len(one)), one) for one in references
    ]
    candidates = [one[: random.integers(3, 12)] for one in candidates]
    texts = [[" ".join(text) for text in side] for side in (candidates, references)]
    wanted = sacrebleu.corpus_bleu(texts[0], [texts[1]], tokenize="none", smooth_method="none").score / 100
    assert 0.1 < wanted < 0.9
    assert loops.score_bleu(candidates, references) == pytest.approx(wanted, rel=1e-9)


def test_rouge_l_of_lins_own_example() -> None:
    """Lin 2004, section 3.1: "police killed the gunman" against "police kill the gunman" 3/4, "the gunman kill police"
    2/4, by F with beta 1."""
    reference = ["police", "killed", "the", "gunman"]
    assert loops.score_rouge_l(["police", "kill", "the", "gunman"], reference) == pytest.approx(3 / 4)
    assert loops.score_rouge_l(["the", "gunman", "kill", "police"], reference) == pytest.approx(2 / 4)
    assert loops.score_rouge_l(["clear"], reference) == 0.0
    assert loops.score_rouge_l(["police"], reference) == pytest.approx(2 * 1 * 0.25 / 1.25)
    assert loops.score_rouge_l(["police"], reference, beta=1.2) == pytest.approx(2.44 * 0.25 / (0.25 + 1.44))
