"""Bring a Kaldi-style data folder into the form that training reads.

    python -m espnet_plugin.jobs.format_data --data_dir data/train --out_dir dump/raw/org/train

Commands of wav.scp (`sph2pipe ... |`) are run, once, and other sampling rates resampled; with
``segments``, utterances are cut out of the recordings. What comes of it are audio files in the
folder; recordings that are as wanted stay where they are. feats.scp passes through and
``feats_dim`` is written. A second call with the same input does nothing, an interrupted one
continues. Recordings of several channels need Kaldi's ``reco2file_and_channel``, ``sw02001-B
sw02001 B`` for the second channel, or --channel.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from espnet_plugin.corpora.atomic import write_atomically
from espnet_plugin.corpora.kaldi_dir import write_table
from espnet_plugin.corpora.processes import work_through
from espnet_plugin.corpora.strict_parser import StrictParser
from espnet_plugin.corpora.text_lines import fields
from espnet_plugin.data.filtered import CHANNEL_TABLE
from espnet_plugin.data.kaldi_files import read_table
from espnet_plugin.data.recordings import (
    ALL,
    AUDIO_FORMATS,
    MEAN,
    Cut,
    Outcome,
    Recording,
    Wanted,
    is_command,
    is_written,
    prepare,
)
from espnet_plugin.models.text_cleaner import load_cleaner
from espnet_plugin.pipeline.launch.console import run_command, show
from espnet_plugin.pipeline.plan.command_line import rate_option
from espnet_plugin.pipeline.state.fingerprint import Inputs, fingerprint

CHANNELS = {"A": 0, "B": 1, "1": 0, "2": 1}
CUTS_AT_ONCE = 200  # of one file; a command's are all made at once, since it runs once


def get_parser() -> argparse.ArgumentParser:
    """Return the parser of this command."""
    parser = StrictParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data_dir", type=Path, required=True)
    parser.add_argument("--out_dir", type=Path, required=True)
    parser.add_argument("--feats_type", choices=("raw", "extracted"), default="raw")
    parser.add_argument("--fs", type=rate_option, default=16000, help="sampling rate wanted, Hz")
    parser.add_argument("--audio_format", choices=tuple(AUDIO_FORMATS), default="flac")
    parser.add_argument(
        "--channel",
        type=channel_option,
        default="",
        help=f"of recordings of several: 1, 2, ..., {MEAN}, or {ALL} of them",
    )
    parser.add_argument("--cleaner", help="ESPnet's cleaner of transcripts, such as tacotron")
    parser.add_argument("--nj", type=int, default=1)
    return parser


def channel_option(text: str) -> str:
    """A channel counted from 1, ``mean`` or ``all``; "": not said."""
    if text in ("", MEAN, ALL) or (text.isdigit() and int(text) > 0):
        return text
    raise argparse.ArgumentTypeError(f"expected a number from 1, {MEAN} or {ALL}, got {text!r}")


def format_data(args: argparse.Namespace) -> bool:
    """Write the formatted folder; returns whether anything was done.

    Raises:
        ValueError: missing files, failed commands, channels nobody chose, impossible segments.
    """
    scp = "wav.scp" if args.feats_type == "raw" else "feats.scp"
    read_table(args.data_dir / scp)
    names = (scp, "segments", CHANNEL_TABLE, "text", "utt2spk", "spk2utt")
    inputs = [args.data_dir / name for name in names if (args.data_dir / name).exists()]
    given = {name: getattr(args, name) for name in ("channel", "audio_format", "cleaner")}
    chosen = {key: value for key, value in given.items() if value not in (None, "", "flac")}
    mark = fingerprint({"fs": args.fs, "type": args.feats_type, **chosen}, inputs, [])
    lists = Inputs(inputs)
    done = args.out_dir / "format.json"
    if done.exists() and json.loads(done.read_text())["fingerprint"] == mark:
        return False
    clean = load_cleaner(args.cleaner)  # one that is missing changes nothing
    done.unlink(missing_ok=True)  # lest the old mark vouch for new files if this run breaks off
    if args.feats_type == "raw":
        _format_audio(args)
    else:
        _copy(args.data_dir / scp, args.out_dir / scp)
        write_atomically(args.out_dir / "feats_dim", f"{feature_size(args.data_dir / scp)}\n")
    for path in inputs:
        if path.name not in (scp, "segments", CHANNEL_TABLE):
            _copy(path, args.out_dir / path.name, clean if path.name == "text" else str)
    lists.require_unchanged("its formatting")
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
    entries = read_table(args.data_dir / "wav.scp")
    wanted = Wanted(args.fs, args.channel, args.audio_format)
    cut = (args.data_dir / "segments").exists()
    recordings = (_segments if cut else _wholes)(args, entries)
    source = args.data_dir / ("segments" if cut else "wav.scp")
    rows = {cut.utterance: cut.target for recording in recordings for cut in recording.cuts}
    rates: Counter[int] = Counter()

    def take(found: Outcome) -> None:
        if found.problem:
            raise ValueError(f"{source}: recording {found.name}: {found.problem}")
        if found.kept:
            rows[found.name] = entries[found.name]
        elif found.rate:
            rates[found.rate] += 1

    if cut:
        recordings = [r for r in recordings if any(not is_written(c.target) for c in r.cuts)]
    work = [(recording, wanted) for part in recordings for recording in _parts(part)]
    if work:
        work_through(prepare, work, args.nj, take, f"{args.data_dir.name}: recordings")
    _tell_rates(rates, args.fs, source)
    lines = "".join(f"{key} {rows[key]}\n" for key in sorted(rows))
    write_atomically(args.out_dir / "wav.scp", lines)


def _tell_rates(rates: Mapping[int, int], fs: int, source: Path) -> None:
    """One line for each rate that was resampled."""
    for rate, count in sorted(rates.items()):
        if rate > fs:
            logging.info("%s: resampled from %d Hz to %d Hz: %d pieces", source, rate, fs, count)
        elif rate < fs:
            logging.warning(
                "%s: upsampled from %d Hz to %d Hz: %d pieces, with nothing above %d Hz in them; "
                "where all data is so, give --fs %d", source, rate, fs, count, rate // 2, rate,
            )  # fmt: skip


def _parts(recording: Recording) -> Iterator[Recording]:
    """Portions of a recording's cuts, so that a long one keeps several processes busy."""
    size = len(recording.cuts) if is_command(recording.entry) else CUTS_AT_ONCE
    for first in range(0, len(recording.cuts), size):
        cuts = recording.cuts[first : first + size]
        yield Recording(recording.name, recording.entry, recording.channel, cuts, recording.whole)


def _target(args: argparse.Namespace, folder: str, utterance: str, content: str) -> str:
    """File of an utterance; its name tells what it holds, lest it pass for its former self."""
    if args.channel:
        content += f" of {args.channel}"
    mark = hashlib.sha256(content.encode()).hexdigest()
    name = f"{utterance}.{mark[:8]}.{args.audio_format}".replace("/", "_")
    # Folders of a thousand files or so stay manageable for every file system.
    return str(args.out_dir / "audio" / (folder[:40].replace("/", "_") or mark[:2]) / name)


def _wholes(args: argparse.Namespace, entries: Mapping[str, str]) -> list[Recording]:
    channels = _channels(args.data_dir / CHANNEL_TABLE)
    found = []
    for name, entry in entries.items():
        channel = channels.get(name)
        target = _target(args, "", name, f"{entry} {channel} {args.fs}")
        found.append(Recording(name, entry, channel, (Cut(name, 0.0, -1.0, target),), whole=True))
    return found


def _segments(args: argparse.Namespace, entries: Mapping[str, str]) -> list[Recording]:
    path, cuts = args.data_dir / "segments", dict[str, list[Cut]]()
    channels = _channels(args.data_dir / CHANNEL_TABLE)
    for key, value in read_table(path).items():
        columns = fields(value)
        try:
            recording, begin, end = columns[0], float(columns[1]), float(columns[2])
        except (IndexError, ValueError):
            raise ValueError(
                f"{path}: utterance {key}: expected 'recording begin end', found {value!r}"
            ) from None
        if recording not in entries:
            raise ValueError(
                f"{path}: utterance {key}: recording {recording} is not in "
                f"{args.data_dir / 'wav.scp'}"
            )
        if begin < 0 or 0 <= end <= begin:
            raise ValueError(f"{path}: utterance {key}: impossible times {begin} to {end}")
        side = f" {channels.get(recording, 0)}" if channels else ""
        content = f"{entries[recording]}{side} {begin} {end} {args.fs}"
        target = _target(args, recording, key, content)
        cuts.setdefault(recording, []).append(Cut(key, begin, end, target))
    return [Recording(r, entries[r], channels.get(r), tuple(c)) for r, c in cuts.items()]


def _channels(path: Path) -> dict[str, int]:
    """Channel of each recording, counted from 0; empty if there is no table.

    Raises:
        ValueError: a line that is not `recording file channel`.
    """
    if not path.exists():
        return {}
    channels = {}
    for recording, value in read_table(path).items():
        channel = fields(value)[-1] if value else ""
        if channel not in CHANNELS:
            raise ValueError(
                f"{path}: recording {recording}: expected 'file channel' with channel A, B, 1 or "
                f"2, found {value!r}"
            )
        channels[recording] = CHANNELS[channel]
    return channels


def _copy(source: Path, target: Path, change: Callable[[str], str] = str) -> None:
    write_table(target, {key: change(value) for key, value in read_table(source).items()})


def main(cmd: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status, see `run_command`."""
    args = get_parser().parse_args(cmd)

    def work() -> None:
        done = format_data(args)
        show(f"{args.out_dir}: {'written' if done else 'up to date'}")

    return run_command(work)


if __name__ == "__main__":
    sys.exit(main())
