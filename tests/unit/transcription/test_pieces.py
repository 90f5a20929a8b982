"""Cutting, joining and captions, without audio and without a model."""

from __future__ import annotations

import itertools
import random

import pytest

from espnet_plugin.transcription.captions import captions
from espnet_plugin.transcription.spans import Span, join_regions, pad_spans, windows
from espnet_plugin.transcription.words import Word, join_pieces


def test_windows_cover_everything_and_overlap_as_asked() -> None:
    spans = windows(47.3, 20.0, 2.0)
    assert spans[0].start == 0 and spans[-1].end == 47.3
    for one, other in itertools.pairwise(spans):
        assert one.end - other.start == pytest.approx(2.0)
        assert one.seconds == pytest.approx(20.0)
    assert windows(3.0, 20.0, 2.0) == [Span(0.0, 3.0)]


@pytest.mark.parametrize(("length", "overlap"), [(4.0, 2.0), (10.0, -1.0), (0.0, 0.0)])
def test_windows_that_never_advance_are_refused(length: float, overlap: float) -> None:
    with pytest.raises(ValueError, match="more than twice the overlap"):
        windows(10.0, length, overlap)


def test_regions_are_joined_over_short_pauses_up_to_the_longest() -> None:
    regions = [Span(0, 3), Span(3.4, 6), Span(8, 9), Span(9.1, 19)]
    assert join_regions(regions, 10.0, 0.5) == [Span(0, 6), Span(8, 9), Span(9.1, 19)]
    assert join_regions(regions, 30.0, 0.5) == [Span(0, 6), Span(8, 19)]
    assert join_regions([], 10.0, 0.5) == []


def test_speech_cut_for_its_length_is_not_joined_again() -> None:
    regions = [Span(0, 9), Span(9, 12)]
    assert join_regions(regions, 30.0, 0.5) == regions


def test_padding_stops_in_the_middle_of_a_pause_and_at_the_ends() -> None:
    padded = pad_spans([Span(0.05, 3), Span(3.2, 6), Span(7, 9.9)], 10.0, 0.2, 2.0)
    assert padded == [
        Span(0.0, pytest.approx(3.1)),
        Span(pytest.approx(3.1), pytest.approx(6.2)),
        Span(pytest.approx(6.8), pytest.approx(10.0)),
    ]


def test_a_cut_inside_of_speech_overlaps() -> None:
    padded = pad_spans([Span(1, 9), Span(9, 12)], 20.0, 0.2, 2.0)
    assert padded == [Span(pytest.approx(0.8), 10.0), Span(8.0, pytest.approx(12.2))]


def spoken(seconds: float) -> list[Word]:
    """A word every 0.4 s; numbered, but with repetitions like real speech."""
    return [Word(f"w{n % 7}", 0.4 * n, 0.4 * n + 0.3, 0.9) for n in range(int(seconds / 0.4))]


def heard(span: Span, words: list[Word], slack: float) -> list[Word]:
    """What a recogniser hears of `words` in a window: words cut at its borders come out wrong."""
    out = []
    for word in words:
        if word.end <= span.start or word.start >= span.end:
            continue
        whole = word.start >= span.start and word.end <= span.end
        shift = slack - span.start
        start, end = max(0.0, word.start + shift), min(span.seconds, word.end + shift)
        out.append(Word(word.text if whole else "broken", start, end, word.confidence))
    return out


@pytest.mark.parametrize("slack", [0.0, 0.04])
def test_joined_windows_give_the_words_that_were_spoken(slack: float) -> None:
    words = spoken(60)
    spans = windows(60.0, 11.0, 2.0)
    pieces = [(span, heard(span, words, slack * (n % 2))) for n, span in enumerate(spans)]
    joined = [word for segment in join_pieces(pieces) for word in segment.words]
    assert [word.text for word in joined] == [word.text for word in words]
    assert all(abs(a.start - b.start) < 0.1 for a, b in zip(joined, words, strict=True))


@pytest.mark.parametrize("text", ["seven five five two", "no no no", "oh one one oh oh"])
def test_a_word_said_twice_at_a_seam_stays_twice(text: str) -> None:
    for start in range(174, 200):
        said = text.split()
        words = [
            Word(word, start / 10 + 0.4 * n, start / 10 + 0.4 * n + 0.3)
            for n, word in enumerate(said)
        ]
        spans = [Span(0.0, 20.0), Span(18.0, 38.0)]
        pieces = [
            (span, [w for w in heard(span, words, 0.0) if w.text != "broken"]) for span in spans
        ]
        joined = [word.text for segment in join_pieces(pieces) for word in segment.words]
        assert joined == said, start


def test_without_a_common_word_the_middle_decides() -> None:
    left = (Span(0, 10), [Word("a", 8.0, 8.4), Word("b", 9.4, 9.8)])
    right = (Span(8, 18), [Word("c", 0.1, 0.4), Word("d", 1.5, 1.9)])
    assert [s.text for s in join_pieces([left, right])] == ["a", "d"]


def test_pieces_that_do_not_overlap_keep_all_their_words() -> None:
    pieces = [(Span(1, 2), [Word("a", 0.5, 0.9)]), (Span(3, 4), [Word("a", 0.0, 0.2)])]
    segments = join_pieces(pieces)
    assert [s.text for s in segments] == ["a", "a"]
    assert [s.words[0].start for s in segments] == [1.5, 3.0]


def test_confidence_of_a_segment_is_the_mean_of_those_known() -> None:
    words = [Word("a", 0, 1, 0.5), Word("b", 1, 2, None), Word("c", 2, 3, 1.0)]
    assert join_pieces([(Span(0, 3), words)])[0].confidence == 0.75
    assert join_pieces([(Span(0, 3), words[1:2])])[0].confidence is None


def test_captions_fit_the_screen_and_keep_every_word() -> None:
    rng = random.Random(1)
    words, time = [], 0.0
    for n in range(300):
        time += rng.choice([0.02, 0.05, 0.1, 2.0])
        words.append(Word("x" * rng.randint(1, 12) + str(n), time, time + 0.25))
        time += 0.25
    shown = captions(words)
    assert [w for c in shown for line in c.lines for w in line.split()] == [w.text for w in words]
    for caption in shown:
        assert len(caption.lines) <= 2 and all(len(line) <= 42 for line in caption.lines)
        assert caption.start <= caption.end <= caption.start + 7.0 + 1e-9
    for one, other in itertools.pairwise(shown):
        assert one.end <= other.start


def test_captions_break_at_pauses_and_stay_long_enough_to_read() -> None:
    shown = captions([Word("one", 0, 0.2), Word("two", 3.0, 3.2), Word("three", 4.5, 4.7)])
    assert [c.lines for c in shown] == [("one",), ("two",), ("three",)]
    assert [(c.start, c.end) for c in shown] == [(0, 1.0), (3.0, 4.0), (4.5, 5.5)]


def test_no_words_no_captions() -> None:
    assert captions([]) == []
