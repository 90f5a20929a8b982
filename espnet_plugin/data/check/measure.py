"""Length, sampling rate and soundness of one recording or feature matrix.

Imports neither torch nor, at the top, the readers: worker processes start from this module.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np


@dataclass(frozen=True)
class Measurement:
    """What is known about an utterance's speech.

    Attributes:
        frames: samples of audio, rows of a feature matrix.
        width: channels of audio, columns of a feature matrix.
        rate: sampling rate in Hz; 0 for features.
        scanned: whether every value was read, and not only the header.
        problem: why the utterance is of no use; None if it is.
    """

    frames: int = 0
    width: int = 0
    rate: int = 0
    scanned: bool = False
    problem: str | None = None


@dataclass(frozen=True)
class Request:
    """One thing to measure.

    Attributes:
        entry: second column of wav.scp or feats.scp.
        kind: "audio" or "features".
        scan: read every value.
        start, end: of a segment of the recording, in seconds.
    """

    entry: str
    kind: str
    scan: bool
    start: float | None = None
    end: float | None = None


def split_entry(entry: str) -> tuple[str, int | None]:
    """``a.ark:123`` -> path and offset; a plain path has offset None."""
    path, colon, offset = entry.rpartition(":")
    return (path, int(offset)) if colon and offset.isdigit() else (entry, None)


def measure(requests: Sequence[Request]) -> list[Measurement]:
    """Measure some utterances; whatever goes wrong with one becomes its `problem`."""
    handles: dict[str, BinaryIO] = {}  # archives stay open: they hold many utterances each
    try:
        return [_measure(request, handles) for request in requests]
    finally:
        for handle in handles.values():
            handle.close()


def _measure(request: Request, handles: dict[str, BinaryIO]) -> Measurement:
    path, offset = split_entry(request.entry)
    try:
        if request.kind == "features":
            return _features(request, path, offset, handles)
        return _audio(request) if offset is None else _audio_in_ark(request)
    except FileNotFoundError:
        return Measurement(problem=f"{path}: no such file")
    except Exception as error:  # readers raise whatever they like on broken files
        text = str(error).strip().split("\n")[0]
        return Measurement(problem=f"{request.entry}: unreadable ({text or type(error).__name__})")


def _features(
    request: Request, path: str, offset: int | None, handles: dict[str, BinaryIO]
) -> Measurement:
    if path not in handles:
        handles[path] = Path(path).open("rb")  # noqa: SIM115 -- `measure` closes it
    file = handles[path]
    file.seek(offset or 0)
    header = file.read(15)
    if header[:2] == b"\0B" and header[2:5] in (b"FM ", b"DM ") and len(header) == 15:
        rows, columns = struct.unpack("<xixi", header[5:])
        dtype = np.dtype("<f4" if header[2:3] == b"F" else "<f8")
        size = rows * columns * dtype.itemsize
        if not request.scan:
            file.seek(0, 2)
            if file.tell() < (offset or 0) + 15 + size:
                return Measurement(problem=f"{request.entry}: the archive is cut off there")
            return Measurement(rows, columns) if rows else _empty(request)
        data = file.read(size)
        if len(data) < size:
            return Measurement(problem=f"{request.entry}: the archive is cut off there")
        matrix = np.frombuffer(data, dtype).reshape(rows, columns)
    else:  # text, compressed or other archives
        from omniio import kaldi

        matrix = np.asarray(kaldi.load_mat(request.entry))
    if matrix.ndim != 2:
        return Measurement(problem=f"{request.entry}: not a matrix, its shape is {matrix.shape}")
    if not matrix.shape[0]:
        return _empty(request)
    finite = np.isfinite(matrix)
    if not finite.all():
        row, column = np.argwhere(~finite)[0].tolist()
        return Measurement(
            problem=f"{request.entry}: {matrix[row, column]} in frame {row}, channel {column}"
        )
    return Measurement(*matrix.shape, scanned=True)


def _empty(request: Request) -> Measurement:
    return Measurement(problem=f"{request.entry}: zero length")


def _audio(request: Request) -> Measurement:
    import soundfile  # type: ignore[import-untyped,unused-ignore]

    if not Path(request.entry).exists():
        raise FileNotFoundError(request.entry)
    with soundfile.SoundFile(request.entry) as file:
        total, rate, channels = int(file.frames), int(file.samplerate), int(file.channels)
        start, end = _segment(request, total, rate)
        if end > total + rate // 10:  # segment times are rounded
            return Measurement(
                problem=f"{request.entry}: ends at {total / rate:.2f} s, the segment at "
                f"{request.end} s"
            )
        end = min(end, total)
        # only float files can hold NaN; of others the header is enough, unless all is to be read
        if request.scan or file.subtype in ("FLOAT", "DOUBLE"):
            file.seek(start)
            values = file.read(max(end - start, 0), dtype="float32")
            if len(values) < end - start:
                return Measurement(
                    problem=f"{request.entry}: cut off after {len(values)} of {end - start} samples"
                )
            return _judge_audio(request, values, rate, channels)
        if end > start and not _reaches(file, end):
            return Measurement(problem=f"{request.entry}: cut off before sample {end}")
    if end <= start:
        return _empty(request)
    return Measurement(end - start, channels, rate)


def _reaches(file: Any, end: int) -> bool:
    """Whether the last sample before `end` can be read; a header says nothing of what follows it.

    A third of a millisecond for a FLAC file, whose frames are found by bisection; its reader raises
    an exception if it is cut off.
    """
    file.seek(end - 1)
    return len(file.read(1, dtype="float32")) == 1


def _segment(request: Request, total: int, rate: int) -> tuple[int, int]:
    if request.start is None or request.end is None:
        return 0, total
    return round(request.start * rate), round(request.end * rate)


def _audio_in_ark(request: Request) -> Measurement:
    from omniio import kaldi

    rate, values = kaldi.load_mat(request.entry)
    if isinstance(rate, np.ndarray):  # the order differs between writers
        rate, values = values, rate
    start, end = _segment(request, len(values), int(rate))
    part = np.asarray(values)[start:end]
    return _judge_audio(request, part, int(rate), 1 if part.ndim == 1 else part.shape[1])


def _judge_audio(request: Request, values: Any, rate: int, channels: int) -> Measurement:
    if not len(values):
        return _empty(request)
    if not np.isfinite(values).all():
        return Measurement(problem=f"{request.entry}: holds NaN or infinite samples")
    return Measurement(len(values), channels, rate, scanned=True)
