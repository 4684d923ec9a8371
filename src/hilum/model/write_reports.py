"""Reports in words: the most probable continuation, or the best of a beam of them."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from hilum.batch import pool_by_owner
from hilum.text.report_tokens import TextLayout

from .report_decoder import AnyReportDecoder, Memory


class Writing(NamedTuple):
    """A text that was written."""

    tokens: list[int]  # without start and end
    score: float  # mean log-probability of its tokens, the end included
    ended: bool  # False: it was cut at the length limit


@torch.no_grad()
def write_reports(
    decoder: AnyReportDecoder,
    layout: TextLayout,
    memory: Memory,
    owner: Int64[Tensor, " row"],
    num_texts: int,
    beam: int = 1,
) -> list[Writing]:
    """One text for each of `num_texts` studies.

    Args:
        decoder: In evaluation mode.
        layout: Of the texts it learned from.
        memory: What texts are written from.
        owner: Text of each row of memory. Of a text with several rows (a view each), the probabilities of the next
            word are averaged as logarithms.
        beam: Beginnings that are kept at a time; 1 is greedy. A text is done when it has as many ends.
    """
    assert beam >= 1
    device = owner.device
    done: list[list[Writing]] = [[] for _ in range(num_texts)]
    live = torch.arange(num_texts, device=device)  # texts that are not done
    words = torch.full((num_texts, beam, 1), layout.start, device=device)
    # All beginnings are the same at first: only one may grow.
    total = torch.full((num_texts, beam), -torch.inf, device=device)
    total[:, 0] = 0.0
    for place in range(layout.length):
        scores = _score_next(decoder, layout, memory, owner, live, words) + total[:, :, None]
        # As many as can be ends, and as many to go on with.
        best, index = scores.flatten(1).topk(2 * beam, dim=1)
        parent, word = index // scores.shape[2], index % scores.shape[2]
        ends = word == layout.end
        goes_on = torch.ones(len(live), dtype=torch.bool, device=device)
        for row, text in enumerate(live.tolist()):
            for rank in ends[row, :beam].nonzero()[:, 0].tolist():
                if best[row, rank] > -torch.inf:
                    found = words[row, parent[row, rank], 1:].tolist()
                    done[text].append(Writing(found, float(best[row, rank]) / (place + 1), ended=True))
            goes_on[row] = len(done[text]) < beam
        order = ends.int().argsort(dim=1, stable=True)[:, :beam]  # the best that do not end
        parent, word, total = parent.gather(1, order), word.gather(1, order), best.gather(1, order)
        total = total.masked_fill(word == layout.end, -torch.inf)
        grown = words.gather(1, parent[:, :, None].expand(-1, -1, words.shape[2]))
        words = torch.cat([grown, word[:, :, None]], dim=2)[goes_on]
        live, total = live[goes_on], total[goes_on]
        if not len(live):
            break
    for row, text in enumerate(live.tolist()):
        for found, score in zip(words[row, :, 1:].tolist(), total[row].tolist(), strict=True):
            if score > -torch.inf:
                done[text].append(Writing(found, score / layout.length, ended=False))
    return [max(texts, key=lambda writing: writing.score) for texts in done]


def _score_next(
    decoder: AnyReportDecoder,
    layout: TextLayout,
    memory: Memory,
    owner: Int64[Tensor, " row"],
    live: Int64[Tensor, " text"],
    words: Int64[Tensor, "text beam place"],
) -> Float[Tensor, "text beam word"]:
    """Log-probability of each word after each beginning; padding and starts are never written."""
    num_texts, beam, _ = words.shape
    text_of_beginning = live.repeat_interleave(beam)
    beginning, row = (text_of_beginning[:, None] == owner[None, :]).nonzero().T
    hidden = decoder(words.flatten(0, 1)[beginning], memory.take(row))[:, -1]
    scores = (hidden @ decoder.words.T).float()
    scores[:, [word for word in (layout.pad, layout.start) if word != layout.end]] = -torch.inf
    mean = pool_by_owner(scores.log_softmax(dim=1), beginning, num_texts * beam)
    return mean.unflatten(0, (num_texts, beam))
