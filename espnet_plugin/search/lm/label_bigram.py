"""Label bigrams: estimated from transcripts, and as a table of all pairs.

Witten and Bell's smoothing, interpolated. With c(u, w) counts, c(u) their sum over w, and r(u) the
number of different w after u,

    p(w | u) = (c(u, w) + r(u) p(w)) / (c(u) + r(u)),    p(w) = (c(w) + r / M) / (c + r)

over M labels, the end of the sentence among them, so that every sequence has a probability. It has
no parameter to tune, and needs no minimum of text.

Shapes: V vocabulary with blank.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import Tensor

from espnet_plugin.search.lm.arpa import ArpaNgrams, Section
from espnet_plugin.search.lm.ngram import (
    BOS,
    EOS,
    NO_LABELS,
    OOV_LOG_PROB,
    NgramModel,
    NgramScorer,
)


def estimate_bigram(
    sentences: Iterable[Sequence[int]], token_list: Sequence[str], blank: int
) -> ArpaNgrams:
    """A bigram of all labels in ``token_list``, with the beginning and the end of sentences.

    Args:
        sentences: labels as indices; empty ones count for nothing.
        token_list: all tokens, of which blank and ``<sos/eos>`` are no labels.

    Raises:
        ValueError: no sentence has a label.
    """
    size = len(token_list)
    counts = np.zeros((size, size + 1), dtype=np.int64)  # rows: blank is the beginning
    for sentence in sentences:
        if len(sentence):
            np.add.at(counts, ([blank, *sentence], [*sentence, size]), 1)
    if not counts.any():
        raise ValueError("there is no label in them to count a bigram of")
    names = [*token_list, EOS]
    labels = [n for n, name in enumerate(token_list) if n != blank and name not in NO_LABELS]
    labels.append(size)
    seen = counts.sum(0)  # [V + 1]
    kinds = int((seen[labels] > 0).sum())
    unigram = (seen + kinds / len(labels)) / (seen[labels].sum() + kinds)
    rows = counts.sum(1)  # [V]
    followers = (counts > 0).sum(1)  # [V]
    # of a label never seen, what follows is that of any label
    shares = followers / np.maximum(rows + followers, 1) + (rows == 0)
    backoff = {names[n]: math.log(shares[n]) for n in (*labels[:-1], blank)}
    ones: Section = {(BOS,): (-math.inf, backoff.pop(names[blank]))}
    ones |= {(names[n],): (math.log(unigram[n]), backoff.get(names[n], 0.0)) for n in labels}
    twos: Section = {}
    for u, w in np.argwhere(counts):
        smoothed = (counts[u, w] + followers[u] * unigram[w]) / (rows[u] + followers[u])
        twos[BOS if u == blank else names[u], names[w]] = math.log(smoothed), 0.0
    return ArpaNgrams((ones, twos))


def bigram_table(model: NgramModel, token_list: Sequence[str], blank: int) -> Tensor:
    """log p(w | u) of all pairs, [V, V + 1]: row ``blank`` the beginning, the last column the end.

    What cannot be said, such as blank, has `OOV_LOG_PROB`.

    Raises:
        ValueError: no bigram, or one of another vocabulary.
    """
    if model.order > 2:
        raise ValueError(
            f"an n-gram of order {model.order}; lf_mmi sums over all sequences with bigrams: make "
            "it with train-ngram --order 2"
        )
    scorer = NgramScorer(model, token_list)
    size = len(token_list)
    states = scorer.advance(scorer.start(size), torch.arange(size))  # [V]
    states[blank] = scorer.start(1)[0]
    steps, _ = scorer.score(states)  # [V, V]
    table = torch.cat([steps, scorer.final(states)[:, None]], 1)
    return table.clamp(min=OOV_LOG_PROB)
