"""Recordings of a wav.scp, files or commands, and the audio files that training reads.

Shapes: T samples, C channels.
"""

from __future__ import annotations

import functools
import io
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from espnet_plugin.corpora.atomic import write_bytes_atomically
from espnet_plugin.corpora.faults import explain
from espnet_plugin.corpora.processes import die_with_parent

#: Formats of the files made -> libsndfile's names.
AUDIO_FORMATS = {"flac": "FLAC", "wav": "WAV"}
MEAN, ALL = "mean", "all"

_CUT_OFF = 141  # a command whose reader wanted no more, as the first one of `... | head -c 100 |`
_TAIL = 500  # characters of a failed command's last words


@dataclass(frozen=True)
class Cut:
    """A piece of a recording.

    Attributes:
        utterance: its id.
        begin, end: in seconds; end < 0: to the recording's end.
        target: audio file to write.
    """

    utterance: str
    begin: float
    end: float
    target: str


@dataclass(frozen=True)
class Recording:
    """A line of wav.scp and what is wanted of it.

    Attributes:
        name: its id.
        entry: an audio file, or a command that writes one, ending in ``|``.
        channel: from 0, of one with several channels; None: not known.
        cuts: to write.
        whole: the only cut is the recording itself, and where it is what training can read, it
            may stay where it is.
    """

    name: str
    entry: str
    channel: int | None
    cuts: tuple[Cut, ...]
    whole: bool = False


@dataclass(frozen=True)
class Wanted:
    """What training reads.

    Attributes:
        fs: sampling rate, Hz.
        channel: of recordings with several where `Recording.channel` is None: a number from 1,
            ``mean``, ``all``, or "" to refuse them.
        audio_format: of `AUDIO_FORMATS`.
    """

    fs: int
    channel: str = ""
    audio_format: str = "flac"


@dataclass(frozen=True)
class Outcome:
    """What became of a recording.

    Attributes:
        rate: its sampling rate, Hz; 0: not known.
        kept: it may stay where it is, and nothing was written.
        problem: what is wrong, or None.
    """

    name: str
    rate: int = 0
    kept: bool = False
    problem: str | None = None


def is_command(entry: str) -> bool:
    """Whether a wav.scp entry is a command, in Kaldi's notation."""
    return entry.endswith("|")


def prepare(work: tuple[Recording, Wanted]) -> Outcome:
    """Write the cuts of a recording that are not there; whatever goes wrong is the `problem`."""
    import soundfile  # type: ignore[import-untyped,unused-ignore]

    recording, wanted = work
    missing = [cut for cut in recording.cuts if not is_written(cut.target)]
    entry = recording.entry
    if not missing or (recording.whole and not is_command(entry) and not os.path.isfile(entry)):
        # A missing file, or one in an archive, is for the data check to judge, as ever.
        return Outcome(recording.name, kept=bool(missing))
    try:
        with opened(entry, Path(missing[0].target).parent) as audio:
            rate = int(audio.samplerate)
            one = audio.channels == 1 or wanted.channel == ALL
            if recording.whole and not is_command(entry) and rate == wanted.fs and one:
                return Outcome(recording.name, rate, kept=True)
            for cut in missing:
                write_audio(Path(cut.target), read_cut(audio, cut, recording, wanted), wanted.fs)
    except soundfile.LibsndfileError as error:
        if recording.whole and not is_command(entry):
            return Outcome(recording.name, kept=True)
        return Outcome(recording.name, problem=f"cannot read {entry}: {error}")
    except ValueError as error:
        return Outcome(recording.name, problem=str(error))
    except OSError as error:
        if explain(error) is not None:  # no recording's fault: a full disk, a missing right
            raise
        return Outcome(recording.name, problem=str(error))
    return Outcome(recording.name, rate)


@contextmanager
def opened(entry: str, scratch: Path) -> Iterator[Any]:
    """Open a recording as a `soundfile.SoundFile`; a command is run to its end first.

    Args:
        scratch: folder for the command's output, which is gone afterwards.

    Raises:
        ValueError: the command failed, with what it said.
    """
    import soundfile

    if not is_command(entry):
        with soundfile.SoundFile(entry) as audio:
            yield audio
        return
    scratch.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=scratch) as output:
        command = entry[:-1].strip()
        # A shell with pipefail: a broken first command of a pipe is not to pass unnoticed.
        bash = shutil.which("bash")
        shell = [bash, "-o", "pipefail", "-c"] if bash else ["sh", "-c"]
        done = subprocess.run(
            [*shell, command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.PIPE,
            preexec_fn=functools.partial(die_with_parent, os.getpid()),
        )
        said = done.stderr.decode(errors="replace").strip()[-_TAIL:]
        if done.returncode not in (0, _CUT_OFF):
            raise ValueError(
                f"`{command}` ended with status {done.returncode}: {said or 'no word'}"
            )
        output.seek(0)
        try:
            audio = soundfile.SoundFile(output)
        except soundfile.LibsndfileError as error:
            raise ValueError(f"`{command}` wrote no audio ({error}): {said or 'no word'}") from None
        with audio:
            yield audio


def read_cut(audio: Any, cut: Cut, recording: Recording, wanted: Wanted) -> np.ndarray:
    """Samples of a cut at the wanted rate, [T] or [T, C], 16 bit.

    Raises:
        ValueError: there is no such piece, or nothing says which channel is meant.
    """
    import soxr  # type: ignore[import-untyped,unused-ignore]

    rate, where = int(audio.samplerate), f"utterance {cut.utterance}: {recording.entry}"
    first = round(cut.begin * rate)
    last = audio.frames if cut.end < 0 else min(round(cut.end * rate), audio.frames)
    if first >= last:
        end = "its end" if cut.end < 0 else f"{cut.end} s"
        raise ValueError(f"{where}: nothing between {cut.begin} s and {end}")
    audio.seek(first)
    samples = audio.read(last - first, dtype="float32", always_2d=True)  # [T, C]
    if len(samples) < last - first:
        raise ValueError(f"{where}: cut off after {first + len(samples)} of {audio.frames} samples")
    samples = _chosen(samples, recording.channel, wanted.channel, where)  # [T] or [T, C]
    if rate != wanted.fs:
        samples = soxr.resample(samples, rate, wanted.fs)
    # 2^15 both ways: 16-bit samples of the right rate come out as they were
    scaled: np.ndarray = np.clip(np.rint(samples * 32768.0), -32768, 32767).astype(np.int16)
    return scaled


def _chosen(samples: np.ndarray, known: int | None, option: str, where: str) -> np.ndarray:
    count = samples.shape[1]
    if count == 1:
        return samples[:, 0]  # as `sph2pipe -c 2 ... |` gives, whatever a table says
    if known is None and option == ALL:
        return samples
    if known is None and option == MEAN:
        return np.asarray(samples.mean(axis=1))
    number = known if known is not None else int(option or 0) - 1
    if not 0 <= number < count:
        asked = f", not {number + 1}" if number >= count else ""
        raise ValueError(
            f"{where} has {count} channel(s){asked}; reco2file_and_channel has to say which one of "
            "them each recording is, or --channel: a number from 1, mean or all"
        )
    return samples[:, number]


def write_audio(target: Path, samples: np.ndarray, rate: int) -> None:
    """Write 16-bit samples in the format of the file's suffix, whole or not at all.

    Encoded in memory: where a disk fills up while libsndfile closes a file, it says nothing, and
    leaves one that cannot be read.

    Raises:
        OSError: with the file's name.
    """
    import soundfile

    content = io.BytesIO()
    kind = AUDIO_FORMATS[target.suffix.removeprefix(".")]
    soundfile.write(content, samples, rate, format=kind, subtype="PCM_16")
    write_bytes_atomically(target, content.getvalue(), durable=False)


def is_written(path: str | Path) -> bool:
    """Whether a file is there that holds something: a crash of the machine may leave it empty."""
    try:
        return Path(path).stat().st_size > 0
    except OSError:
        return False
