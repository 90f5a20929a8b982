"""How long after its sound a model emits a word's labels.

Shapes: B utterances, T encoder frames, D encoder size, S labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from espnet_plugin.inference.text_output import WordOutput
from espnet_plugin.inference.word_times import label_frames
from espnet_plugin.models.progressive import ProgressiveTransducerModel
from espnet_plugin.search import Hypothesis
from espnet_plugin.search.align.word_hmm import Span

#: Seconds from a word's first and last frame in the sound to those of its first and last label
Lag = tuple[float, float]


def label_words(
    model: ProgressiveTransducerModel,
    words: WordOutput,
    batch: dict[str, Any],
    frames: torch.Tensor,
    lengths: torch.Tensor,
) -> list[list[tuple[float, float]]]:
    """Beginning and end of every word by the labels of its transcript on the model's best path.

    Args:
        batch: `text` [B, S] and its lengths.
        frames, lengths: encoder output [B, T, D] and [B].

    Returns:
        Seconds; nothing for an utterance whose labels do not fit into its frames, or where it is
        not known how words are made of labels.
    """
    shift = words.frame_shift
    if shift is None:
        return [[] for _ in lengths]
    texts = zip(batch["text"], batch["text_lengths"].tolist(), strict=True)
    tokens = [tuple(row[:length].tolist()) for row, length in texts]
    places = label_frames(model, tokens, frames, lengths)
    timed = [
        words.timed(Hypothesis(labels, 0.0, 0.0), at or ())
        for labels, at in zip(tokens, places, strict=True)
    ]
    return [[(word.first * shift, (word.last + 1) * shift) for word in said] for said in timed]


def word_lags(
    labels: Sequence[tuple[float, float]], spans: Sequence[Span] | None, words: WordOutput
) -> list[Lag]:
    """Lag of every word of an utterance; nothing where the two do not have the same words."""
    if spans is None or len(spans) != len(labels):
        return []
    pairs = zip(labels, map(words.sound_seconds, spans), strict=True)
    return [(label[0] - word[0], label[1] - word[1]) for label, word in pairs]
