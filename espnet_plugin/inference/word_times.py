"""Words with times and confidences of a batch's N-best lists.

Shapes: B utterances, T encoder frames, D encoder size, T' feature frames, F features.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from espnet_plugin.corpora.text_lines import fields
from espnet_plugin.inference.text_output import WordOutput
from espnet_plugin.models.progressive import ProgressiveTransducerModel
from espnet_plugin.search import Hypothesis, exact_frames, posteriors, word_confidences
from espnet_plugin.search.align.word_hmm import WordHmm


@dataclass(frozen=True)
class SpokenWord:
    """A word of the best hypothesis; seconds, and its share of the N-best list's probability."""

    word: str
    start: float
    duration: float
    confidence: float


def words_in_sound(
    spoken: Sequence[Sequence[SpokenWord]],
    words: WordOutput,
    boundaries: WordHmm | None,
    features: torch.Tensor,
    lengths: torch.Tensor,
) -> list[list[SpokenWord]]:
    """The same words, with their beginnings and ends in the sound.

    Args:
        spoken: of each utterance [B], timed by its labels.
        words: tells how long a feature frame is.
        boundaries: places words in features; without it, times stay as they are, as they do where
            an utterance is too short, or by far too long, for it.
        features, lengths: of the utterances, [B, T', F] and [B].
    """
    if boundaries is None:
        return [list(said) for said in spoken]
    texts = [[word.word for word in said] for said in spoken]
    found = []
    for said, spans in zip(spoken, boundaries.spans(texts, features, lengths), strict=True):
        if spans is None:
            found.append(list(said))
            continue
        times = [(max(0.0, start), end) for start, end in map(words.sound_seconds, spans)]
        found.append(
            [
                replace(word, start=start, duration=end - start)
                for word, (start, end) in zip(said, times, strict=True)
            ]
        )
    return found


def label_frames(
    model: ProgressiveTransducerModel,
    tokens: Sequence[Sequence[int]],
    frames: torch.Tensor,
    lengths: torch.Tensor,
) -> list[tuple[int, ...] | None]:
    """See `exact_frames`: the encoder frame of every label [B], on the model's best path."""
    return exact_frames(
        tokens,
        frames,
        lengths,
        model.prediction,
        model.joint_network,
        topology=model.topology,
        blank=model.blank_id,
    )


def spoken_words(
    model: ProgressiveTransducerModel,
    words: WordOutput,
    lists: Sequence[Sequence[Hypothesis]],
    frames: torch.Tensor,
    lengths: torch.Tensor,
    method: str,
) -> list[list[SpokenWord]]:
    """The words of every utterance; none where their times cannot be known.

    Args:
        words: makes words of labels.
        lists: N-best lists [B].
        frames, lengths: encoder output [B, T, D] and [B], from which `lists` were found.
        method: ``align`` (the best path of the labels found), ``search`` (what the search noted on
            its way) or ``none``.
    """
    shift = words.frame_shift
    if method == "none" or shift is None:
        return [[] for _ in lists]
    best = [found[0] for found in lists]
    places: Sequence[Sequence[int] | None] = [hypothesis.frames for hypothesis in best]
    if method == "align" and any(places):
        places = label_frames(model, [hypothesis.tokens for hypothesis in best], frames, lengths)
    return [_spoken(words, found, at, shift) for found, at in zip(lists, places, strict=True)]


def _spoken(
    words: WordOutput, found: Sequence[Hypothesis], at: Sequence[int] | None, shift: float
) -> list[SpokenWord]:
    timed = words.timed(found[0], found[0].frames if at is None else at)
    said = [fields(words.text(hypothesis)) for hypothesis in found]
    sure = word_confidences([word.word for word in timed], said, posteriors(found))
    return [
        SpokenWord(w.word, w.first * shift, (w.last - w.first + 1) * shift, confidence)
        for w, confidence in zip(timed, sure, strict=True)
    ]
