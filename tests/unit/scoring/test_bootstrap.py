"""The paired bootstrap: certain cases, a case with a known distribution, bad input."""

from __future__ import annotations

import random
from math import comb

import kaldialign
import pytest

from espnet_plugin.scoring import Counts, align, count_errors, paired_bootstrap


def one_word_each(errors: list[int]) -> dict[str, Counts]:
    """Utterances of one word, with or without an error."""
    return {f"u{n:03d}": Counts(1, 1, 1 - e, e, 0, 0, e) for n, e in enumerate(errors)}


def test_the_same_system_twice_differs_by_nothing() -> None:
    system = one_word_each([0, 1, 0, 1])
    found = paired_bootstrap(system, system, draws=200)
    assert (found.difference, found.low, found.high) == (0, 0, 0)
    assert not found.significant and found.improvement == 0


def test_the_distribution_is_the_binomial_one() -> None:
    # B repairs one of two errors in 10 words: it is better whenever that word is drawn
    a, b = one_word_each([1, 1] + [0] * 8), one_word_each([1, 0] + [0] * 8)
    found = paired_bootstrap(a, b, draws=20000, seed=3)
    assert found.rate_a == pytest.approx(20) and found.difference == pytest.approx(-10)
    assert found.improvement == pytest.approx(1 - 0.9**10, abs=0.015)
    # P(drawn 0 times) = 0.35 and P(at least 4 times) = 1.3 %, so 2.5 % lie at 3 times: -30
    assert sum(comb(10, k) * 0.1**k * 0.9 ** (10 - k) for k in range(4, 11)) < 0.025
    assert (found.low, found.high) == (pytest.approx(-30), pytest.approx(0))
    assert not found.significant


def test_a_clear_difference_is_significant_and_repeats_with_the_seed() -> None:
    a, b = one_word_each([1] * 30 + [0] * 70), one_word_each([1] * 5 + [0] * 95)
    found = paired_bootstrap(a, b, draws=500)
    assert found.significant and found.high < 0 and found.improvement == 1
    assert found == paired_bootstrap(a, b, draws=500)


def test_drawing_speakers_widens_the_interval() -> None:
    # all errors that B repairs are one speaker's
    a, b = one_word_each([1] * 10 + [0] * 90), one_word_each([0] * 100)
    speakers = {key: f"s{n // 10}" for n, key in enumerate(a)}
    by_utterance = paired_bootstrap(a, b, draws=2000)
    by_speaker = paired_bootstrap(a, b, speakers=speakers, draws=2000)
    assert by_speaker.units == 10 and by_utterance.units == 100
    assert by_utterance.significant and not by_speaker.significant


def test_probability_of_improvement_is_kaldialigns() -> None:
    """Both draw utterances; only ours draws speakers, for which reason it stays."""
    generator = random.Random(1)
    texts = [[generator.choices("abc", k=6) for _ in range(60)] for _ in range(3)]
    reference, first, second = texts
    second = [r if generator.random() < 0.1 else s for r, s in zip(reference, second, strict=True)]
    theirs = kaldialign.bootstrap_wer_ci(reference, first, second, replications=4000)
    systems = [
        {f"u{n:02d}": count_errors(s) for n, s in enumerate(align(reference, hypotheses))}
        for hypotheses in (first, second)
    ]
    found = paired_bootstrap(*systems, draws=4000)
    assert 0.05 < found.improvement < 0.999
    assert found.improvement == pytest.approx(theirs["p_s2_improv_over_s1"], abs=0.03)


def test_bad_input() -> None:
    a = one_word_each([0, 1])
    with pytest.raises(ValueError, match="not in both systems: u001"):
        paired_bootstrap(a, one_word_each([0]))
    with pytest.raises(ValueError, match="without a speaker: u000, u001"):
        paired_bootstrap(a, a, speakers={})
    with pytest.raises(ValueError, match="confidence"):
        paired_bootstrap(a, a, confidence=1.0)
    empty = {"u": Counts(sentences=1)}
    with pytest.raises(ValueError, match="no reference token"):
        paired_bootstrap(empty, empty)
