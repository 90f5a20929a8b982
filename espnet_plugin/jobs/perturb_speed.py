"""Add copies of a formatted data folder at other speeds, as ESPnet's recipes do.

    python -m espnet_plugin.jobs.perturb_speed --data_dir dump/raw/org/train \\
        --out_dir dump/raw/org/train_sp --factors 0.9 1.0 1.1

Speed means tempo and pitch together: the recording is resampled, so that a factor of 0.9 makes it
1/0.9 times as long. Copies are FLAC files, called ``sp0.9-<utterance>`` by speakers
``sp0.9-<speaker>``; factor 1.0 takes the utterances as they are. A second call with the same input
does nothing, an interrupted one continues.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from espnet_plugin.corpora.atomic import write_atomically
from espnet_plugin.corpora.disk_space import require_space
from espnet_plugin.corpora.kaldi_dir import write_data_dir
from espnet_plugin.corpora.processes import work_through
from espnet_plugin.corpora.strict_parser import StrictParser
from espnet_plugin.data.kaldi_files import read_table, some
from espnet_plugin.data.recordings import is_written, write_audio
from espnet_plugin.pipeline.launch.console import run_command, show
from espnet_plugin.pipeline.plan.command_line import rate_option
from espnet_plugin.pipeline.state.fingerprint import Inputs, fingerprint

_FLAC_SHARE = 0.6  # of 16-bit samples; speech is usually smaller


@dataclass(frozen=True)
class Copy:
    """One recording to make."""

    source: str
    target: str
    factor: float
    rate: int


def get_parser() -> argparse.ArgumentParser:
    """Return the parser of this command."""
    parser = StrictParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data_dir", type=Path, required=True, help="formatted: no segments")
    parser.add_argument("--out_dir", type=Path, required=True)
    parser.add_argument("--factors", type=float, nargs="+", required=True, metavar="FACTOR")
    parser.add_argument("--fs", type=rate_option, default=16000, help="sampling rate, Hz")
    parser.add_argument("--nj", type=int, default=1)
    return parser


def perturb_speed(args: argparse.Namespace) -> bool:
    """Write the folder; returns whether anything was done.

    Raises:
        ValueError: impossible factors, missing files, unreadable audio, a full disk.
    """
    if len(set(args.factors)) < len(args.factors) or not all(0.5 <= f <= 2 for f in args.factors):
        raise ValueError(
            f"--factors {args.factors}: wanted are different numbers from 0.5 to 2, as 0.9 1 1.1"
        )
    inputs = [args.data_dir / name for name in ("wav.scp", "text", "utt2spk")]
    tables = [read_table(path) for path in inputs if path.exists() or path.name != "utt2spk"]
    recordings, text = tables[:2]
    speakers = tables[2] if len(tables) > 2 else {key: key for key in recordings}
    for name, table in (("text", text), ("utt2spk", speakers)):
        lost = sorted(recordings.keys() - table.keys())
        if lost:
            raise ValueError(
                f"{args.data_dir / name}: nothing for {some(lost)} of wav.scp; add the lines, or "
                "take the recordings out"
            )
    present = [path for path in inputs if path.exists()]
    mark = fingerprint({"factors": sorted(args.factors), "fs": args.fs}, present, [])
    done = args.out_dir / "format.json"
    if done.exists() and json.loads(done.read_text())["fingerprint"] == mark:
        return False
    lists = Inputs(present)
    rows: dict[str, dict[str, str]] = {"wav.scp": {}, "text": {}, "utt2spk": {}}
    copies = []
    for factor in sorted(args.factors):
        prefix = "" if factor == 1 else f"sp{factor:g}-"
        for key, source in recordings.items():
            target = _target(args, prefix, speakers[key], key, source) if prefix else source
            rows["wav.scp"][prefix + key] = target
            rows["text"][prefix + key] = text[key]
            rows["utt2spk"][prefix + key] = prefix + speakers[key]
            if prefix and not is_written(target):
                copies.append(Copy(source, target, factor, args.fs))
    done.unlink(missing_ok=True)  # lest the old mark vouch for new files if this run breaks off
    _make(copies, args)
    utt2spk = rows.pop("utt2spk")
    write_data_dir(args.out_dir, utt2spk, rows)
    lists.require_unchanged("the making of its copies")
    write_atomically(done, json.dumps({"fingerprint": mark}) + "\n")
    return True


def _target(args: argparse.Namespace, prefix: str, speaker: str, key: str, source: str) -> str:
    # The name tells what was resampled, so that a changed recording is not taken for its old self.
    mark = hashlib.sha256(f"{source} {prefix} {args.fs}".encode()).hexdigest()[:8]
    folder = args.out_dir / "audio" / prefix.rstrip("-") / speaker[:40].replace("/", "_")
    return str(folder / f"{prefix}{key}.{mark}.flac")


def _make(copies: Sequence[Copy], args: argparse.Namespace) -> None:
    """Make what is missing.

    Raises:
        ValueError: a recording cannot be used, or the disk is too full.
    """
    require_space(args.out_dir, sum(_expected_size(copies)), "speed perturbation")

    def take(problem: str | None) -> None:
        if problem:
            raise ValueError(f"{args.data_dir / 'wav.scp'}: {problem}")

    if copies:
        work_through(_resample, copies, args.nj, take, f"{args.out_dir}: copies")


def _expected_size(copies: Sequence[Copy]) -> Iterator[int]:
    """Bytes of the copies: of FLAC, a source's size over the factor; of other audio, a share."""
    for copy in copies:
        try:
            size = os.path.getsize(copy.source)
        except OSError:
            continue  # named when it is to be read
        share = 1.0 if copy.source.endswith(".flac") else _FLAC_SHARE
        yield round(size * share / copy.factor)


def _resample(copy: Copy) -> str | None:
    """Make one copy; returns what is wrong, or None."""
    import soundfile  # type: ignore[import-untyped,unused-ignore]
    import soxr  # type: ignore[import-untyped,unused-ignore]

    try:
        samples, rate = soundfile.read(copy.source, dtype="int16")
    except (OSError, soundfile.LibsndfileError) as error:
        return f"cannot read {copy.source}: {error}"
    if rate != copy.rate:
        return f"{copy.source} has {rate} Hz, wanted {copy.rate}; resample the audio or give --fs"
    faster = soxr.resample(samples, rate * copy.factor, rate)
    write_audio(Path(copy.target), faster, rate)
    return None


def main(cmd: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status, see `run_command`."""
    args = get_parser().parse_args(cmd)

    def work() -> None:
        done = perturb_speed(args)
        show(f"{args.out_dir}: {'written' if done else 'up to date'}")

    return run_command(work)


if __name__ == "__main__":
    sys.exit(main())
