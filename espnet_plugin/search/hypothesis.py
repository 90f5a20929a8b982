"""What every search returns: one immutable hypothesis, its score in parts."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Hypothesis:
    """One recognised label sequence.

    ``score = am_score - ilm_scale * ilm_score + sum_i scale_i * lm_scores[i]``, in a lexicon search
    plus ``pronunciation_scale * pronunciation_score``. All parts are natural-log probabilities
    *before* scaling, so that scales can be changed afterwards
    (:func:`espnet_plugin.search.rescore`).

    Attributes:
        tokens: Label indices, without blank.
        score: The total the hypotheses are sorted by.
        am_score: log P(tokens | x) as far as the beam has seen it: exact for an unpruned beam, a
            lower bound otherwise. In greedy search and in ``max`` mode the score of one path.
        ilm_score: Internal language model's log-probability of the tokens (0 if not used).
        lm_scores: One log-probability per language model, in the order the scorers were given;
            the word-level model of a lexicon search comes last.
        frames: Encoder frame at which each token was emitted, same length as ``tokens``.
        words: Words of a lexicon search, else empty.
        word_frames: (first, last) encoder frame of each word, same length as ``words``.
        word_labels: (first, last) position in ``tokens`` of each word, likewise.
        pronunciation_score: Log of the pronunciation variants' probabilities.
    """

    tokens: tuple[int, ...]
    score: float
    am_score: float
    ilm_score: float = 0.0
    lm_scores: tuple[float, ...] = ()
    frames: tuple[int, ...] = ()
    words: tuple[str, ...] = ()
    word_frames: tuple[tuple[int, int], ...] = ()
    word_labels: tuple[tuple[int, int], ...] = ()
    pronunciation_score: float = 0.0
