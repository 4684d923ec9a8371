"""MVMAE-V2T's report term as loops over studies, views, texts, tokens and dimensions, with nothing else in them.

Written from the specification ("M" and a section number) before any of Hilum's own functions was read, so that one can
disagree with the other. A text is a list of word numbers; numbers are Python floats; the decoder's arrays are numpy's,
in 64 bit.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

Vector = list[float]
Logits = list[Vector]  # token -> word -> logit
Labels = list[int]  # token -> word, or IGNORED

IGNORED = -100  # PyTorch's number for a target that does not count
PAD = 0

# Loss


def log_softmax(logits: Sequence[float]) -> Vector:
    highest = max(logits)
    total = 0.0
    for logit in logits:
        total += math.exp(logit - highest)
    return [logit - highest - math.log(total) for logit in logits]


def cross_entropy_of_text(logits: Logits, labels: Labels) -> float | None:
    """M 2.6, L_CE: mean over a text's real tokens of -log p(word); None where no token is one (test 25)."""
    total, count = 0.0, 0
    for of_token, label in zip(logits, labels, strict=True):
        if label != IGNORED:
            total -= log_softmax(of_token)[label]
            count += 1
    return total / count if count else None


def mean_over_texts(losses: list[list[float | None]]) -> float:
    """Study -> view -> loss of the text as that view tells it: every one that exists weighs the same; 0 if none."""
    existing = [loss for study in losses for loss in study if loss is not None]
    return sum(existing) / len(existing) if existing else 0.0


def mean_over_views_of_studies(losses: list[list[float | None]]) -> float:
    """M 2.6, paper: the mean over the views of a study; then every study that has a text weighs the same; 0 if none."""
    total, count = 0.0, 0
    for study in losses:
        existing = [loss for loss in study if loss is not None]
        if existing:
            total += sum(existing) / len(existing)
            count += 1
    return total / count if count else 0.0


def mean_over_tokens(texts: list[tuple[Logits, Labels]]) -> float:
    """Every real token of all texts weighs the same: *not* what the paper or the released code does."""
    total, count = 0.0, 0
    for logits, labels in texts:
        for of_token, label in zip(logits, labels, strict=True):
            if label != IGNORED:
                total -= log_softmax(of_token)[label]
                count += 1
    return total / count if count else 0.0


# The released code's mistakes (M 2.6)


def mean_over_available(available: list[int], losses: Vector) -> float:
    """What was meant: test 24, [1, 0, 1, 1] and [1, 100, 2, 3] -> 2.0."""
    total, count = 0.0, 0
    for is_there, loss in zip(available, losses, strict=True):
        if is_there:
            total += loss
            count += 1
    return total / count if count else 0.0


def code_broadcast_loss(available: list[int], losses: Vector) -> float:
    """Bug 3: availability (B, 1) x loss (B,) is (B, B), whose mean is taken; test 24: 26.5 x 3/4 = 19.875."""
    total, count = 0.0, 0
    for is_there in available:
        for loss in losses:
            total += is_there * loss
            count += 1
    return total / count


def code_labels_of_slots(labels: Labels, num_slots: int) -> list[Labels]:
    """Bug 2: after the first slot the ignored targets are [PAD], in the tensor that all slots share."""
    shared, seen = list(labels), []
    for _ in range(num_slots):
        seen.append(list(shared))  # what this slot is trained on
        for token in range(len(shared)):
            if shared[token] == IGNORED:
                shared[token] = PAD  # so that it can be decoded to a string
    return seen


def code_report_term(available: list[list[int]], losses: list[Vector]) -> float:
    """M 2.5: slots' losses stand in the list of six with the three reconstructions, whose mean is taken: halved.

    available, losses: slot -> sample. The sum over the slots is divided by twice their number.
    """
    total = 0.0
    for of_slot, of_losses in zip(available, losses, strict=True):
        total += code_broadcast_loss(of_slot, of_losses)
    return total / (2 * len(losses))


# Memory positions


def invert(permutation: Sequence[int]) -> list[int]:
    inverse = [0] * len(permutation)
    for place, patch in enumerate(permutation):
        inverse[patch] = place
    return inverse


def positions_of_memory(permutation: Sequence[int], num_visible: int) -> list[int]:
    """Test 22: rows of the table of positions for the class token (row 0) and the visible tokens.

    permutation: which patch stands at each place after shuffling; the first `num_visible` of them are seen.
    """
    return [0] + [1 + permutation[place] for place in range(num_visible)]


def code_positions_of_memory(permutation: Sequence[int], num_visible: int) -> list[int]:
    """Bug 1: the same rows through the inverse permutation, which says where each *patch* went."""
    inverse = invert(permutation)
    return [0] + [1 + inverse[place] for place in range(num_visible)]


def count_own_positions(permutation: Sequence[int], num_visible: int, found: list[int]) -> int:
    """How many of the visible tokens (the class token not counted) have the row of their own patch."""
    return sum(found[1 + place] == 1 + permutation[place] for place in range(num_visible))


# A causal, pre-norm decoder


class Linear(NamedTuple):
    weight: np.ndarray  # (out, in)
    bias: np.ndarray | None = None


class Norm(NamedTuple):
    weight: np.ndarray
    bias: np.ndarray
    eps: float = 1e-6


class Attention(NamedTuple):
    query: Linear
    key: Linear
    value: Linear
    out: Linear
    heads: int


class Layer(NamedTuple):
    """`memory_norm`: what keys and values are read through, None for the memory as it is."""

    self_norm: Norm
    self_attention: Attention
    cross_norm: Norm
    memory_norm: Norm | None
    cross_attention: Attention
    mlp_norm: Norm
    mlp_in: Linear
    mlp_out: Linear


class Decoder(NamedTuple):
    words: np.ndarray  # (vocabulary, dim), tied: also what words are scored by
    positions: np.ndarray  # (longest text, dim)
    layers: list[Layer]
    norm: Norm


def decode_slowly(decoder: Decoder, inputs: Sequence[int], memory: np.ndarray, causal: bool = True) -> np.ndarray:
    """M 7.3-E: logits (token, vocabulary) of one text over its memory (memory token, dim).

    x = word + position; for every layer x + self(norm x), x + cross(norm x, memory), x + mlp(norm x); then the final
    norm against the table of words. inputs: the text shifted right by the start token, or a mask word everywhere for
    CapPa's parallel prediction, which also drops the causal mask (arXiv 2306.07915, section 3).
    """
    tokens = [decoder.words[word] + decoder.positions[place] for place, word in enumerate(inputs)]
    for layer in decoder.layers:
        normed = [_normalise(token, layer.self_norm) for token in tokens]
        for index in range(len(tokens)):
            seen = normed[: index + 1] if causal else normed
            tokens[index] = tokens[index] + _attend(normed[index], seen, layer.self_attention)
        keys = [_normalise(row, layer.memory_norm) if layer.memory_norm else row for row in memory]
        for index, token in enumerate(tokens):
            token = token + _attend(_normalise(token, layer.cross_norm), keys, layer.cross_attention)
            hidden = _apply(layer.mlp_in, _normalise(token, layer.mlp_norm))
            hidden = np.array([value * 0.5 * (1 + math.erf(value / math.sqrt(2))) for value in hidden])
            tokens[index] = token + _apply(layer.mlp_out, hidden)
    logits = np.zeros((len(tokens), len(decoder.words)))
    for index, token in enumerate(tokens):
        token = _normalise(token, decoder.norm)
        for word, vector in enumerate(decoder.words):
            logits[index, word] = float(vector @ token)
    return logits


def _apply(linear: Linear, vector: np.ndarray) -> np.ndarray:
    out = linear.weight @ vector
    return out if linear.bias is None else out + linear.bias


def _normalise(vector: np.ndarray, norm: Norm) -> np.ndarray:
    mean = sum(vector) / len(vector)
    variance = sum((value - mean) ** 2 for value in vector) / len(vector)
    return (vector - mean) / math.sqrt(variance + norm.eps) * norm.weight + norm.bias


def _attend(query_token: np.ndarray, key_tokens: Sequence[np.ndarray], attention: Attention) -> np.ndarray:
    """One query over its keys: per head softmax(q k / sqrt(width of a head)) v."""
    query = _apply(attention.query, query_token)
    keys = [_apply(attention.key, token) for token in key_tokens]
    values = [_apply(attention.value, token) for token in key_tokens]
    size = len(query) // attention.heads
    mixed = np.zeros(len(query))
    for start in range(0, len(query), size):
        scores = [float(query[start : start + size] @ key[start : start + size]) / math.sqrt(size) for key in keys]
        for score, value in zip(log_softmax(scores), values, strict=True):
            mixed[start : start + size] += math.exp(score) * value[start : start + size]
    return _apply(attention.out, mixed)


# Generation

NextWord = Callable[[tuple[int, ...]], Sequence[float]]  # words so far, start included -> log-probability of each word


class Sentence(NamedTuple):
    words: tuple[int, ...]  # without start and end
    log_probability: float  # the end's included, where it ended
    ended: bool


def generate_greedily(next_word: NextWord, start: int, end: int, max_words: int) -> Sentence:
    """The likeliest word at a time, until that is the end (test 25) or `max_words` words stand there."""
    words, total = (start,), 0.0
    while len(words) - 1 < max_words:
        scores = next_word(words)
        best = max(range(len(scores)), key=lambda word: (scores[word], -word))  # the first of equals
        total += scores[best]
        if best == end:
            return Sentence(words[1:], total, True)
        words = (*words, best)
    return Sentence(words[1:], total, False)


def generate_by_beam(
    next_word: NextWord, start: int, end: int, max_words: int, width: int, length_power: float = 0.0
) -> list[Sentence]:
    """The `width` best sentences found, best first.

    Every step extends each open sentence by every word and keeps the `width` likeliest of all extensions: those that
    are the end leave the beam and are finished. Sentences still open at `max_words` words are cut there. The order
    is by log-probability / (number of words + 1)^length_power, the end counted as a word.
    """
    open_sentences: list[tuple[tuple[int, ...], float]] = [((start,), 0.0)]
    done: list[Sentence] = []
    for _ in range(max_words):
        extended = []
        for words, total in open_sentences:
            for word, score in enumerate(next_word(words)):
                extended.append(((*words, word), total + score))
        extended.sort(key=lambda one: -one[1])
        open_sentences = []
        for words, total in extended[:width]:
            if words[-1] == end:
                done.append(Sentence(words[1:-1], total, True))
            else:
                open_sentences.append((words, total))
        if not open_sentences:
            break
    done += [Sentence(words[1:], total, False) for words, total in open_sentences]
    done.sort(key=lambda sentence: -sentence.log_probability / (len(sentence.words) + 1) ** length_power)
    return done[:width]


def generate_by_open_beam(next_word: NextWord, start: int, end: int, max_words: int, width: int) -> Sentence:
    """The best sentence of a beam in which ends take no place: `width` open ones go on, until as many have ended.

    An end counts where it is among the `width` likeliest extensions. Sentences still open at `max_words` words are cut
    there. The order is by log-probability / number of words, the end counted as one where there is one.
    """
    open_sentences: list[tuple[tuple[int, ...], float]] = [((start,), 0.0)]
    done: list[Sentence] = []
    for _ in range(max_words):
        extended = [
            ((*words, word), total + score)
            for words, total in open_sentences
            for word, score in enumerate(next_word(words))
            if score > -math.inf
        ]
        extended.sort(key=lambda one: -one[1])
        done += [Sentence(words[1:-1], total, True) for words, total in extended[:width] if words[-1] == end]
        open_sentences = [one for one in extended if one[0][-1] != end][:width]
        if len(done) >= width:
            open_sentences = []
            break
    done += [Sentence(words[1:], total, False) for words, total in open_sentences]
    return max(done, key=lambda sentence: sentence.log_probability / (len(sentence.words) + sentence.ended))


def enumerate_sentences(next_word: NextWord, start: int, end: int, max_words: int) -> list[Sentence]:
    """Every sentence there is, likeliest first: what a beam of any width can at best find."""
    found: list[Sentence] = []

    def extend(words: tuple[int, ...], total: float) -> None:
        if len(words) - 1 == max_words:
            found.append(Sentence(words[1:], total, False))
            return
        for word, score in enumerate(next_word(words)):
            if word == end:
                found.append(Sentence(words[1:], total + score, True))
            else:
                extend((*words, word), total + score)

    extend((start,), 0.0)
    return sorted(found, key=lambda sentence: -sentence.log_probability)


# Scores of generated text

Words = Sequence[str]


def count_ngrams(words: Words, size: int) -> dict[tuple[str, ...], int]:
    counts: dict[tuple[str, ...], int] = {}
    for start in range(len(words) - size + 1):
        ngram = tuple(words[start : start + size])
        counts[ngram] = counts.get(ngram, 0) + 1
    return counts


def score_bleu(candidates: Sequence[Words], references: Sequence[Words], size: int = 4) -> float:
    """BLEU of a corpus with one reference each, in [0, 1] (Papineni et al. 2002, sections 2.1 to 2.3).

    Counts are summed over the corpus before they are divided, unsmoothed; BP = exp(1 - r/c) where c <= r.
    """
    log_precision = 0.0
    for length in range(1, size + 1):
        matched, total = 0, 0
        for candidate, reference in zip(candidates, references, strict=True):
            allowed = count_ngrams(reference, length)
            for ngram, count in count_ngrams(candidate, length).items():
                matched += min(count, allowed.get(ngram, 0))
                total += count
        if not matched:
            return 0.0
        log_precision += math.log(matched / total) / size
    spoken = sum(len(candidate) for candidate in candidates)
    wanted = sum(len(reference) for reference in references)
    brevity = 1.0 if spoken > wanted else math.exp(1 - wanted / spoken)
    return brevity * math.exp(log_precision)


def measure_common_subsequence(first: Words, second: Words) -> int:
    """Length of the longest common subsequence, by its recursion."""
    table = [[0] * (len(second) + 1) for _ in range(len(first) + 1)]
    for i in range(1, len(first) + 1):
        for j in range(1, len(second) + 1):
            if first[i - 1] == second[j - 1]:
                table[i][j] = table[i - 1][j - 1] + 1
            else:
                table[i][j] = max(table[i - 1][j], table[i][j - 1])
    return table[-1][-1]


def score_rouge_l(candidate: Words, reference: Words, beta: float = 1.0) -> float:
    """ROUGE-L of one sentence (Lin 2004, section 3.1): (1 + b^2) R P / (R + b^2 P); beta 1 is the usual F1, 1.2 that of
    image captions."""
    common = measure_common_subsequence(candidate, reference)
    if not common:
        return 0.0
    recall, precision = common / len(reference), common / len(candidate)
    return (1 + beta**2) * recall * precision / (recall + beta**2 * precision)
