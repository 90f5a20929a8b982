"""Files in, transcripts out: cut, batched over files, recognised, joined.

One broken file costs only itself. Pieces of several files share batches of about equal length.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from espnet_plugin.transcription.audio import Track, read_tracks
from espnet_plugin.transcription.formats import TrackTranscript, Transcript
from espnet_plugin.transcription.spans import Span, join_regions, pad_spans, windows
from espnet_plugin.transcription.vad import speech_regions
from espnet_plugin.transcription.words import Word, join_pieces

_LOG = logging.getLogger(__name__)
#: Pieces of audio [L] at the model's rate -> words of each, with times from the piece's beginning
Recognise = Callable[[list[np.ndarray]], list[list[Word]]]

SEGMENTATIONS = ("vad", "windows", "none")
_POOLED = 8  # batches that are sorted together by length
_SHORTEST = 0.5  # seconds; shorter pieces are filled up with silence


@dataclass(frozen=True)
class Cutting:
    """How recordings are cut.

    Attributes:
        segmentation: ``vad`` (at silences), ``windows`` (equal, overlapping) or ``none``.
        longest: seconds of a piece at most.
        overlap: seconds that neighbours share where speech had to be cut.
        gap: seconds of a pause that may stay inside of a piece.
        pad: seconds of silence kept before and after speech.
    """

    segmentation: str = "vad"
    longest: float = 20.0
    overlap: float = 2.0
    gap: float = 0.6
    pad: float = 0.2

    def __post_init__(self) -> None:
        if self.segmentation not in SEGMENTATIONS:
            raise ValueError(
                f"segmentation must be one of {SEGMENTATIONS}, got {self.segmentation!r}"
            )
        if self.segmentation != "none":
            windows(1.0, self.longest, self.overlap)  # refuses lengths that do not go together

    def spans(self, track: Track) -> list[Span]:
        """The pieces of a track; none if nobody speaks in it."""
        if self.segmentation == "none":
            return [Span(0.0, track.seconds)]
        if self.segmentation == "windows":
            return windows(track.seconds, self.longest, self.overlap)
        # Room for the padding, so that no piece exceeds the longest
        regions = speech_regions(track.samples, track.rate, self.longest - self.overlap)
        joined = join_regions(regions, self.longest - self.overlap, self.gap)
        return pad_spans(joined, track.seconds, self.pad, self.overlap)


@dataclass
class _Pending:
    """A file whose pieces wait for their batch."""

    path: Path
    tracks: list[Track] = field(default_factory=list)
    spans: list[list[Span]] = field(default_factory=list)
    words: dict[tuple[int, int], list[Word]] = field(default_factory=dict)
    error: str | None = None

    def pieces(self) -> list[tuple[int, int]]:
        """(track, piece) of everything to recognise."""
        return [(t, n) for t, spans in enumerate(self.spans) for n in range(len(spans))]

    def audio(self, key: tuple[int, int]) -> np.ndarray:
        """Samples [L] of a piece."""
        track, span = self.tracks[key[0]], self.spans[key[0]][key[1]]
        samples = track.samples[round(span.start * track.rate) : round(span.end * track.rate)]
        return np.pad(samples, (0, max(0, round(_SHORTEST * track.rate) - len(samples))))


class Transcriber:
    """Transcribes files.

    Args:
        recognise: the model.
        rate: samples per second that it takes.
        model: its name, for the record.
        cutting: how recordings are cut.
        channels: see `read_tracks`.
        batch_size: pieces per batch.
        progress: called with the seconds of audio that are finished, as they are.

    Raises:
        ValueError: a batch size below 1.
    """

    def __init__(
        self,
        recognise: Recognise,
        rate: int,
        model: str,
        cutting: Cutting,
        *,
        channels: str = "mix",
        batch_size: int = 8,
        progress: Callable[[float], object] = lambda seconds: None,
    ) -> None:
        if batch_size < 1:
            raise ValueError(f"--batch_size must be at least 1, got {batch_size}")
        self.recognise, self.rate, self.model = recognise, rate, model
        self.cutting, self.channels = cutting, channels
        self.batch_size, self.progress = batch_size, progress

    def run(self, paths: Iterable[Path]) -> Iterator[tuple[Path, Transcript | None]]:
        """Yields every file once, with None for one that failed (and a line in the log)."""
        pool: list[_Pending] = []
        for path in paths:
            pool.append(self._open(path))
            if sum(len(file.pieces()) for file in pool) >= self.batch_size * _POOLED:
                yield from self._finish(pool)
                pool = []
        yield from self._finish(pool)

    def transcribe(self, path: Path) -> Transcript:
        """What was said in one file.

        Raises:
            ValueError: it cannot be read or recognised; saying why.
        """
        file = self._open(path)
        ((_, transcript),) = self._finish([file])
        if transcript is None:
            raise ValueError(file.error)
        return transcript

    def _open(self, path: Path) -> _Pending:
        file = _Pending(path)
        try:
            file.tracks = read_tracks(path, self.rate, self.channels)
            file.spans = [self.cutting.spans(track) for track in file.tracks]
        except ValueError as error:
            file.error = str(error)
        except Exception as error:
            file.error = f"{path}: {type(error).__name__}: {error}"
            _LOG.debug("%s", path, exc_info=True)
        return file

    def _finish(self, pool: Sequence[_Pending]) -> Iterator[tuple[Path, Transcript | None]]:
        todo = [(file, key) for file in pool if file.error is None for key in file.pieces()]
        todo.sort(key=lambda item: -item[0].spans[item[1][0]][item[1][1]].seconds)
        for start in range(0, len(todo), self.batch_size):
            batch = todo[start : start + self.batch_size]
            self._batch(batch)
            self.progress(sum(file.spans[t][n].seconds for file, (t, n) in batch))
        for file in pool:
            if file.error is not None:
                _LOG.error("%s", file.error)
            yield file.path, None if file.error is not None else self._transcript(file)

    def _batch(self, batch: Sequence[tuple[_Pending, tuple[int, int]]]) -> None:
        """Recognises a batch; if it fails, its pieces one by one, to find the one to blame."""
        try:
            found = self.recognise([file.audio(key) for file, key in batch])
        except Exception as error:
            if len(batch) > 1:
                _LOG.debug("a batch failed, its pieces follow one by one", exc_info=True)
                for item in batch:
                    self._batch([item])
                return
            file, (track, piece) = batch[0]
            span = file.spans[track][piece]
            file.error = (
                f"{file.path}: cannot be recognised from {span.start:.1f} to {span.end:.1f} s "
                f"({type(error).__name__}: {error})"
            )
            _LOG.debug("%s", file.path, exc_info=True)
            return
        for (file, key), words in zip(batch, found, strict=True):
            file.words[key] = words

    def _transcript(self, file: _Pending) -> Transcript:
        tracks = []
        for t, (track, spans) in enumerate(zip(file.tracks, file.spans, strict=True)):
            pieces = [(span, file.words[t, n]) for n, span in enumerate(spans)]
            segments = tuple(join_pieces(pieces))
            tracks.append(TrackTranscript(track.channel, track.seconds, segments))
        if not any(track.words for track in tracks):
            _LOG.warning("%s: no speech found in it", file.path)
        return Transcript(file.path.stem, str(file.path), self.model, tuple(tracks))
