"""Audio files of any format that libsndfile reads, as mono tracks at the model's rate.

Shapes: L samples, C channels. Files are read in blocks, so that an hour of 48 kHz stereo needs the
memory of its mono track at the model's rate and no more.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import soxr

_LOG = logging.getLogger(__name__)
_BLOCK = 30.0  # seconds read at once
# What libsndfile may read, for folders given as input; any file given by name is tried.
SUFFIXES = frozenset(
    {".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".aifc", ".au", ".snd"}
    | {".caf", ".w64", ".rf64", ".sph", ".voc"}
)


@dataclass(frozen=True)
class Track:
    """One channel of a recording, or the mean of all.

    Attributes:
        samples: float32 [L] at `rate`.
        rate: samples per second.
        channel: its number from 1 on, or None for the mean.
    """

    samples: np.ndarray
    rate: int
    channel: int | None = None

    @property
    def seconds(self) -> float:
        """Length of the track."""
        return len(self.samples) / self.rate


def read_tracks(path: Path, rate: int, channels: str = "mix") -> list[Track]:
    """Read a file.

    Args:
        path: the file.
        rate: of the model, in samples per second; other rates are resampled, with a notice.
        channels: ``mix`` (the mean of all), ``each`` (one track per channel), or a channel's
            number, from 1 on.

    Raises:
        ValueError: no such file, a format that libsndfile does not read, a channel that is not
            there, or audio with nothing in it or with values that are no numbers.
    """
    if not path.is_file():
        raise ValueError(f"{path}: no such file")
    try:
        with soundfile.SoundFile(str(path)) as file:
            chosen = _choose(path, file.channels, channels)
            _tell(path, file, rate, channels)
            parts = _read(file, rate, chosen)
    except soundfile.LibsndfileError as error:
        raise ValueError(
            f"{path}: libsndfile cannot read it ({error.error_string.strip()}); convert it first, "
            f"for example: ffmpeg -i {path} {path.with_suffix('.wav').name}"
        ) from error
    tracks = []
    for number, blocks in zip(chosen, parts, strict=True):
        samples = np.concatenate(blocks) if blocks else np.zeros(0, np.float32)
        if not len(samples):
            raise ValueError(f"{path}: there is no audio in it")
        if not np.isfinite(samples).all():
            raise ValueError(f"{path}: has samples that are no finite numbers; it is damaged")
        tracks.append(Track(samples, rate, number))
    return tracks


def _choose(path: Path, there: int, channels: str) -> list[int | None]:
    """Channel numbers to read; None is the mean of all."""
    if channels == "mix":
        return [None]
    if channels == "each":
        return [*range(1, there + 1)]
    if not channels.isdecimal() or not 1 <= int(channels) <= there:
        raise ValueError(
            f"{path}: --channels {channels}, but it has {there}; give mix, each or a number from "
            f"1 to {there}"
        )
    return [int(channels)]


def _tell(path: Path, file: soundfile.SoundFile, rate: int, channels: str) -> None:
    if file.samplerate != rate:
        narrow = " (the band above is missing)" if file.samplerate < rate else ""
        _LOG.info("%s: resampled from %d to %d Hz%s", path, file.samplerate, rate, narrow)
    if file.channels > 1 and channels == "mix":
        _LOG.info(
            "%s: the mean of its %d channels is transcribed; --channels each takes them one by one",
            path,
            file.channels,
        )


def _read(file: soundfile.SoundFile, rate: int, chosen: list[int | None]) -> list[list[np.ndarray]]:
    """The blocks of every chosen track, resampled without seams between them."""
    streams = None
    if file.samplerate != rate:
        streams = [soxr.ResampleStream(file.samplerate, rate, 1) for _ in chosen]
    parts: list[list[np.ndarray]] = [[] for _ in chosen]
    size = int(_BLOCK * file.samplerate)
    while True:
        block = file.read(size, dtype="float32", always_2d=True)  # [L, C]
        last = len(block) < size
        for n, channel in enumerate(chosen):
            track = block.mean(axis=1) if channel is None else block[:, channel - 1]  # [L]
            if streams is not None:
                track = streams[n].resample_chunk(np.ascontiguousarray(track), last=last)
            parts[n].append(track.astype(np.float32, copy=False))
        if last:
            return parts
