"""Words with times and confidences; CTM."""

from __future__ import annotations

import pytest

from espnet_plugin.search.word_output import (
    TimedWord,
    ctm_lines,
    token_words,
    word_confidences,
)


@pytest.mark.parametrize(
    ("style", "tokens", "expected"),
    [
        ("bpe", ["▁he", "llo", "▁you"], [("hello", 1, 2), ("you", 5, 5)]),
        ("bpe", ["he", "▁", "llo"], [("he", 1, 1), ("llo", 2, 5)]),
        ("char", ["a", "<space>", "b"], [("a", 1, 1), ("b", 5, 5)]),
        ("char", ["<space>", "a", "<space>"], [("a", 2, 2)]),
        ("phn", ["HH", "IY#", "AH#"], [("HH IY#", 1, 2), ("AH#", 5, 5)]),
    ],
)
def test_words_of_tokens(style: str, tokens: list[str], expected: list) -> None:
    found = token_words(tokens, [1, 2, 5], style)
    assert [(w.word, w.first, w.last) for w in found] == expected
    assert token_words([], [], style) == []


def test_bad_calls() -> None:
    with pytest.raises(ValueError, match="style"):
        token_words([], [], "word")
    with pytest.raises(ValueError, match="1 tokens but 0 frames"):
        token_words(["a"], [], "char")
    with pytest.raises(ValueError, match="1 hypotheses but 0"):
        word_confidences(["a"], [["a"]], [])


def test_confidences_are_n_best_posteriors() -> None:
    best = ["a", "b", "c"]
    nbest = [best, ["a", "c"], ["x", "b", "c"], ["a", "y", "c", "c"]]
    found = word_confidences(best, nbest, [0.4, 0.3, 0.2, 0.1])
    assert found == pytest.approx([0.8, 0.6, 1.0])
    assert word_confidences([], nbest, [0.25] * 4) == []


def test_ctm() -> None:
    lines = ctm_lines("utt1", [TimedWord("hi", 5, 7, 0.5)], 0.04, offset=1.0)
    assert lines == ["utt1 1 1.200 0.120 hi 0.5000"]
