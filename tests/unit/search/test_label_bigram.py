"""Label bigrams from transcripts: Witten-Bell by hand, and through an ARPA file."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from pathlib import Path

import pytest
import torch

from espnet_plugin.search.lm.arpa import format_arpa, read_arpa_ngrams
from espnet_plugin.search.lm.label_bigram import bigram_table, estimate_bigram
from espnet_plugin.search.lm.ngram import OOV_LOG_PROB, NgramModel, read_arpa

TOKENS = ["<blank>", "<unk>", "a", "b", "c", "<sos/eos>"]
SENTENCES = [[2, 3, 2], [3], [], [2, 2, 3]]  # aba, b, nothing, aab; never c, nor <unk>


def by_hand(before: str, after: str) -> float:
    """p(after | before) from the definition, over strings with ^ and $."""
    pairs = Counter(pair for text in ("^aba$", "^b$", "^aab$") for pair in itertools.pairwise(text))
    singles = Counter()
    for (_, symbol), count in pairs.items():
        singles[symbol] += count
    kinds, total = len(singles), sum(singles.values())
    unigram = (singles[after] + kinds / 5) / (total + kinds)  # <unk>, a, b, c and $
    following = {w: n for (u, w), n in pairs.items() if u == before}
    if not following:
        return unigram
    share = len(following)
    return (following.get(after, 0) + share * unigram) / (sum(following.values()) + share)


def test_it_is_witten_bell_and_sums_to_one() -> None:
    table = bigram_table(NgramModel(estimate_bigram(SENTENCES, TOKENS, 0)), TOKENS, 0)
    for row, before in ((0, "^"), (2, "a"), (3, "b"), (4, "c"), (1, "?")):
        for column, after in ((2, "a"), (3, "b"), (4, "c"), (1, "?"), (6, "$")):
            wanted = math.log(by_hand(before, after))
            assert table[row, column].item() == pytest.approx(wanted, rel=1e-5), before + after
        assert table[row, [1, 2, 3, 4, 6]].exp().sum().item() == pytest.approx(1.0, rel=1e-6)
    assert bool((table[:, [0, 5]] == OOV_LOG_PROB).all())  # blank and <sos/eos> are no labels


def test_blank_may_be_any_token() -> None:
    turned = [4, 1, 2, 3, 0, 5]  # <blank> and c have changed places
    tokens = [TOKENS[n] for n in turned]
    usual = bigram_table(NgramModel(estimate_bigram(SENTENCES, TOKENS, 0)), TOKENS, 0)
    other = bigram_table(NgramModel(estimate_bigram(SENTENCES, tokens, 4)), tokens, 4)
    assert torch.allclose(usual[turned][:, [*turned, 6]], other)


def test_the_arpa_file_is_the_same_model(tmp_path: Path) -> None:
    made = estimate_bigram(SENTENCES, TOKENS, 0)
    path = tmp_path / "label.arpa"
    path.write_text(format_arpa(made))
    read = read_arpa_ngrams(path)
    for one, other in zip(made.grams, read.grams, strict=True):
        assert list(one) == list(other)
        for gram, numbers in one.items():
            assert other[gram] == pytest.approx(numbers, rel=1e-14)
    assert read_arpa(path).order == 2
    assert format_arpa(made) == format_arpa(estimate_bigram(SENTENCES, TOKENS, 0))


def test_nothing_to_count() -> None:
    with pytest.raises(ValueError, match="no label in them"):
        estimate_bigram([[], []], TOKENS, 0)
