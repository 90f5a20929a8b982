"""Times of labels replaced by those of the sound."""

from __future__ import annotations

import torch

from espnet_plugin.inference.text_output import WordOutput
from espnet_plugin.inference.word_lags import word_lags
from espnet_plugin.inference.word_times import SpokenWord, words_in_sound

OUTPUT = WordOutput.__new__(WordOutput)  # only what tells times, as of ESPnet's front-end
OUTPUT.hop, OUTPUT.begin = 0.01, -0.005
FEATURES, LENGTHS = torch.zeros(2, 50, 4), torch.tensor([50, 40])
SPOKEN = [
    [SpokenWord("A", 0.2, 0.04, 0.9), SpokenWord("B", 0.32, 0.08, 0.8)],
    [SpokenWord("C", 0.1, 0.1, 0.7)],
]


class Placed:
    """Stands in for a `WordHmm`: the first utterance's words, nothing for the second."""

    def spans(self, words, features, lengths):
        assert words == [["A", "B"], ["C"]] and lengths is LENGTHS and features is FEATURES
        return [[(0, 12), (15, 31)], None]


def test_seconds_of_frames() -> None:
    first, second = words_in_sound(SPOKEN, OUTPUT, Placed(), FEATURES, LENGTHS)
    assert [(w.word, round(w.start, 4), round(w.duration, 4), w.confidence) for w in first] == [
        ("A", 0.0, 0.115, 0.9),  # the first frame begins before the first sample
        ("B", 0.145, 0.16, 0.8),
    ]
    assert second == SPOKEN[1]  # no place was found
    assert words_in_sound(SPOKEN, OUTPUT, None, FEATURES, LENGTHS) == SPOKEN


def test_lags() -> None:
    labels = [(0.2, 0.24), (0.32, 0.4)]
    found = word_lags(labels, [(0, 12), (15, 31)], OUTPUT)
    assert [tuple(round(value, 4) for value in lag) for lag in found] == [
        (0.205, 0.125),
        (0.175, 0.095),
    ]
    assert word_lags(labels, None, OUTPUT) == word_lags(labels[:1], [(0, 1), (2, 3)], OUTPUT) == []
