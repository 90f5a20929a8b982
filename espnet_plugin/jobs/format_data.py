"""Bring a Kaldi-style data folder into the form that training reads.

    python -m espnet_plugin.jobs.format_data --data_dir data/train --out_dir dump/raw/org/train

With ``segments``, utterances are cut out of the recordings into FLAC files; without, wav.scp is
taken as it is; feats.scp passes through and ``feats_dim`` is written. A second call with the
same input does nothing, an interrupted one continues. Recordings of several channels need Kaldi's
``reco2file_and_channel``: ``sw02001-B sw02001 B`` cuts from the second channel.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from espnet_plugin.corpora.atomic import write_atomically
from espnet_plugin.corpora.strict_parser import StrictParser
from espnet_plugin.data.kaldi_files import read_table, some
from espnet_plugin.pipeline.launch.console import run_command, show
from espnet_plugin.pipeline.plan.command_line import rate_option
from espnet_plugin.pipeline.state.fingerprint import fingerprint

#: utterance, recording's file, its channel (-1: the only one), begin, end (seconds; end < 0: to the
#: end), file to write
Segment = tuple[str, str, int, float, float, str]

CHANNEL_TABLE = "reco2file_and_channel"
CHANNELS = {"A": 0, "B": 1, "1": 0, "2": 1}


def get_parser() -> argparse.ArgumentParser:
    """Return the parser of this command."""
    parser = StrictParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data_dir", type=Path, required=True)
    parser.add_argument("--out_dir", type=Path, required=True)
    parser.add_argument("--feats_type", choices=("raw", "extracted"), default="raw")
    parser.add_argument("--fs", type=rate_option, default=16000, help="sampling rate wanted, Hz")
    parser.add_argument("--nj", type=int, default=1)
    return parser


def format_data(args: argparse.Namespace) -> bool:
    """Write the formatted folder; returns whether anything was done.

    Raises:
        ValueError: missing files, piped wav.scp entries, wrong rates, impossible segments.
    """
    scp = "wav.scp" if args.feats_type == "raw" else "feats.scp"
    read_table(args.data_dir / scp)
    names = (scp, "segments", CHANNEL_TABLE, "text", "utt2spk", "spk2utt")
    inputs = [args.data_dir / name for name in names if (args.data_dir / name).exists()]
    mark = fingerprint({"fs": args.fs, "type": args.feats_type}, inputs, [])
    done = args.out_dir / "format.json"
    if done.exists() and json.loads(done.read_text())["fingerprint"] == mark:
        return False
    if args.feats_type == "raw":
        _format_audio(args)
    else:
        _copy(args.data_dir / scp, args.out_dir / scp)
        write_atomically(args.out_dir / "feats_dim", f"{feature_size(args.data_dir / scp)}\n")
    for path in inputs:
        if path.name not in (scp, "segments", CHANNEL_TABLE):
            _copy(path, args.out_dir / path.name)
    write_atomically(done, json.dumps({"fingerprint": mark}) + "\n")
    return True


def feature_size(scp: Path) -> int:
    """Features per frame of the first utterance that a feats.scp lists.

    Raises:
        ValueError: it cannot be read.
    """
    from omniio import kaldi

    key, location = next(iter(read_table(scp).items()))
    try:
        matrix = kaldi.load_mat(location)
    except (OSError, ValueError) as error:
        raise ValueError(f"{scp}: utterance {key}: cannot read {location}: {error}") from error
    if matrix.ndim != 2:
        raise ValueError(f"{scp}: utterance {key}: features of shape {matrix.shape}, want [T, D]")
    return int(matrix.shape[1])


def _format_audio(args: argparse.Namespace) -> None:
    recordings = read_table(args.data_dir / "wav.scp")
    piped = [key for key, value in recordings.items() if value.endswith("|")]
    if piped:
        raise ValueError(
            f"{args.data_dir / 'wav.scp'}: commands instead of files for {some(piped)}; run them "
            "first and list the audio files they give"
        )
    if not (args.data_dir / "segments").exists():
        _copy(args.data_dir / "wav.scp", args.out_dir / "wav.scp")
        return
    segments = list(_segments(args.data_dir, recordings, args.out_dir, args.fs))
    missing = [segment for segment in segments if not os.path.exists(segment[-1])]
    with ProcessPoolExecutor(max(1, args.nj)) as pool:
        work = [(segment, args.fs) for segment in missing]
        for count, problem in enumerate(pool.map(_cut, work, chunksize=16), 1):
            if problem:
                raise ValueError(f"{args.data_dir / 'segments'}: {problem}")
            if count % 1000 == 0:
                print(f"{args.data_dir.name}: {count}/{len(missing)} segments cut", flush=True)
    lines = "".join(f"{segment[0]} {segment[-1]}\n" for segment in sorted(segments))
    write_atomically(args.out_dir / "wav.scp", lines)


def _segments(data: Path, recordings: dict[str, str], out: Path, fs: int) -> Iterator[Segment]:
    path = data / "segments"
    channels = _channels(data / CHANNEL_TABLE)
    for key, value in read_table(path).items():
        fields = value.split()
        try:
            recording, begin, end = fields[0], float(fields[1]), float(fields[2])
        except (IndexError, ValueError):
            raise ValueError(
                f"{path}: utterance {key}: expected 'recording begin end', found {value!r}"
            ) from None
        if recording not in recordings:
            raise ValueError(
                f"{path}: utterance {key}: recording {recording} is not in {data / 'wav.scp'}"
            )
        if begin < 0 or 0 <= end <= begin:
            raise ValueError(f"{path}: utterance {key}: impossible times {begin} to {end}")
        # The name tells what was cut, so that a changed segment is not taken for its former self.
        channel = channels.get(recording, 0)
        side = f" {channel}" if channels else ""
        content = f"{recordings[recording]}{side} {begin} {end} {fs}"
        name = f"{key}.{hashlib.sha256(content.encode()).hexdigest()[:8]}.flac"
        # Folders of a thousand files or so stay manageable for every file system.
        target = out / "audio" / recording[:40].replace("/", "_") / name
        yield key, recordings[recording], channel if channels else -1, begin, end, str(target)


def _channels(path: Path) -> dict[str, int]:
    """Channel of each recording, counted from 0; empty if there is no table.

    Raises:
        ValueError: a line that is not `recording file channel`.
    """
    if not path.exists():
        return {}
    channels = {}
    for recording, value in read_table(path).items():
        channel = value.split()[-1] if value else ""
        if channel not in CHANNELS:
            raise ValueError(
                f"{path}: recording {recording}: expected 'file channel' with channel A, B, 1 or "
                f"2, found {value!r}"
            )
        channels[recording] = CHANNELS[channel]
    return channels


def _cut(work: tuple[Segment, int]) -> str | None:
    """Cut one segment; returns what is wrong, or None."""
    import soundfile  # type: ignore[import-untyped,unused-ignore]

    (key, source, channel, begin, end, target), fs = work
    try:
        with soundfile.SoundFile(source) as audio:
            if audio.samplerate != fs:
                return (
                    f"utterance {key}: {source} has {audio.samplerate} Hz, wanted {fs}; resample "
                    "the audio or give --fs"
                )
            if max(channel, 0) >= audio.channels or (channel < 0 and audio.channels > 1):
                return (
                    f"utterance {key}: {source} has {audio.channels} channel(s); {CHANNEL_TABLE} "
                    "has to say which one of them each recording is"
                )
            first = round(begin * fs)
            last = audio.frames if end < 0 else min(round(end * fs), audio.frames)
            if first >= last:
                return f"utterance {key}: nothing between {begin} s and {end} s of {source}"
            audio.seek(first)
            samples = audio.read(last - first, dtype="int16", always_2d=True)[:, max(channel, 0)]
    except (OSError, soundfile.LibsndfileError) as error:
        return f"utterance {key}: cannot read {source}: {error}"
    path = Path(target)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(f".{os.getpid()}.partial")
    soundfile.write(partial, samples, fs, format="FLAC", subtype="PCM_16")
    os.replace(partial, path)
    return None


def _copy(source: Path, target: Path) -> None:
    table = read_table(source)
    write_atomically(target, "".join(f"{key} {table[key]}\n" for key in sorted(table)))


def main(cmd: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status, see `run_command`."""
    args = get_parser().parse_args(cmd)

    def work() -> None:
        done = format_data(args)
        show(f"{args.out_dir}: {'written' if done else 'up to date'}")

    return run_command(work)


if __name__ == "__main__":
    sys.exit(main())
