"""From labels to words with times and confidences, and the CTM format.

Shapes do not matter here: plain Python on finished hypotheses. Times are in encoder frames until
:func:`ctm_lines` multiplies them with the frame shift.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

WORD_MARK = "\u2581"  # sentencepiece's mark of a word's beginning
STYLES = ("bpe", "char", "phn")


@dataclass(frozen=True)
class TimedWord:
    """A word from its first to its last label's frame, with the probability that it is right."""

    word: str
    first: int
    last: int
    confidence: float = 1.0


def token_words(
    tokens: Sequence[str],
    frames: Sequence[int],
    style: str,
    *,
    space: str = "<space>",
    word_end: str = "#",
) -> list[TimedWord]:
    """Words of a token sequence.

    Args:
        tokens: Token names.
        frames: Their emission frames.
        style: ``"bpe"``: a word begins at "▁"; ``"char"``: words are separated by ``space``;
            ``"phn"``: a word ends with a token that ends with ``word_end`` (the words are then
            pronunciations, phonemes joined by a blank).
        space: Token between words.
        word_end: Mark of a word's last phoneme.

    Raises:
        ValueError: An unknown style, or numbers of tokens and frames that differ.
    """
    if style not in STYLES:
        raise ValueError(f"style must be one of {STYLES}, got {style!r}")
    if len(tokens) != len(frames):
        raise ValueError(f"{len(tokens)} tokens but {len(frames)} frames")
    words: list[tuple[list[str], list[int]]] = []
    open_word = False
    for token, frame in zip(tokens, frames, strict=True):
        if style == "char" and token == space:
            open_word = False
            continue
        if not open_word or (style == "bpe" and token.startswith(WORD_MARK)):
            words.append(([], []))
            open_word = True
        words[-1][0].append(token.removeprefix(WORD_MARK) if style == "bpe" else token)
        words[-1][1].append(frame)
        if style == "phn" and token.endswith(word_end):
            open_word = False
    glue = " " if style == "phn" else ""
    named = [(glue.join(parts), times) for parts, times in words]
    return [TimedWord(name, times[0], times[-1]) for name, times in named if name]


def word_confidences(
    best: Sequence[str], nbest: Sequence[Sequence[str]], posteriors: Sequence[float]
) -> list[float]:
    """N-best posterior of every word of ``best``.

    The share of the list in which the word stands at the same place of a Levenshtein alignment.
    ``posteriors`` belong to ``nbest`` (which should contain ``best``) and sum to one.

    Raises:
        ValueError: Numbers of hypotheses and posteriors that differ.
    """
    if len(nbest) != len(posteriors):
        raise ValueError(f"{len(nbest)} hypotheses but {len(posteriors)} posteriors")
    totals = [0.0] * len(best)
    for words, posterior in zip(nbest, posteriors, strict=True):
        for position in _matches(best, words):
            totals[position] += posterior
    return [min(1.0, total) for total in totals]


def _matches(first: Sequence[str], second: Sequence[str]) -> list[int]:
    """Positions of ``first`` that a best alignment pairs with an equal word of ``second``."""
    rows = [list(range(len(second) + 1))]
    for i, word in enumerate(first, 1):
        row = [i]
        for j, other in enumerate(second, 1):
            row.append(min(rows[-1][j] + 1, row[-1] + 1, rows[-1][j - 1] + (word != other)))
        rows.append(row)
    i, j, matched = len(first), len(second), []
    while i and j:
        if first[i - 1] == second[j - 1] and rows[i][j] == rows[i - 1][j - 1]:
            matched.append(i - 1)
            i, j = i - 1, j - 1
        elif rows[i][j] == rows[i - 1][j - 1] + 1:
            i, j = i - 1, j - 1
        elif rows[i][j] == rows[i - 1][j] + 1:
            i -= 1
        else:
            j -= 1
    return matched


def ctm_lines(
    utterance: str,
    words: Sequence[TimedWord],
    frame_shift: float,
    *,
    channel: str = "1",
    offset: float = 0.0,
) -> list[str]:
    """NIST CTM lines: utterance, channel, start, duration (seconds), word, confidence.

    A label is emitted within its frame, so a word lasts from the beginning of its first label's
    frame to the end of its last one's. ``frame_shift`` is that of the encoder output, in seconds.
    """
    return [
        f"{utterance} {channel} {offset + word.first * frame_shift:.3f} "
        f"{(word.last - word.first + 1) * frame_shift:.3f} {word.word} {word.confidence:.4f}"
        for word in words
    ]
