#!/usr/bin/env python3
"""Make a small synthetic speech corpus: 16-bit WAV files and Kaldi data directories.

The same configuration and seed give the same bytes, whatever the number of processes. A killed run
continues where it was: finished files are kept, and each appears only when it is whole.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import os
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml
from acoustics import record, write_wav
from espeak import Espeak
from plan import SETS, Utterance, check, plan

from espnet_plugin.corpora.atomic import write_atomically
from espnet_plugin.corpora.kaldi_dir import write_data_dir
from espnet_plugin.corpora.strict_parser import StrictParser

# Counts up when the code would give other audio for the same configuration.
AUDIO_VERSION = 1


def identity(config: dict[str, Any]) -> str:
    """Return a checksum of everything that the audio depends on, other than how much there is."""
    settings = {key: value for key, value in config.items() if key != "num_utterances"}
    made_by = [AUDIO_VERSION, version("espeakng-loader")]
    return hashlib.sha256(json.dumps([made_by, settings], sort_keys=True).encode()).hexdigest()


def in_children(tasks: Sequence[Callable[[], None]], nj: int, done: Callable[[int], None]) -> int:
    """Run each task in a forked process of its own, `nj` at a time; return how many failed.

    A fork per task costs a few milliseconds, and gives every task the same untouched eSpeak.
    """
    running: set[int] = set()
    failed = finished = 0
    waiting = iter(tasks)
    while finished < len(tasks):
        while len(running) < nj and (task := next(waiting, None)) is not None:
            pid = os.fork()
            if pid == 0:
                _run_and_exit(task)
            running.add(pid)
        pid, status = os.wait()
        if pid in running:
            running.remove(pid)
            finished += 1
            failed += status != 0
            done(finished)
    return failed


def _run_and_exit(task: Callable[[], None]) -> None:
    """Run a task in the child; it must never come back into the parent's code."""
    status = 1
    try:
        task()
        status = 0
    except (ValueError, OSError) as error:
        logging.error("%s", error)
    except Exception:
        logging.exception("a defect of this program")
    finally:
        os._exit(status)


class Progress:
    """One line that counts up on a terminal, or a line every ten per cent elsewhere."""

    def __init__(self, total: int) -> None:
        """Start the clock for `total` files."""
        self._total, self._start, self._shown = total, time.monotonic(), 0
        self._terminal = sys.stderr.isatty()

    def __call__(self, done: int) -> None:
        """Show that `done` files are finished."""
        step = max(1, self._total // (200 if self._terminal else 10))
        if done < self._total and done < self._shown + step:
            return
        self._shown = done
        left = (time.monotonic() - self._start) / done * (self._total - done)
        line = f"synthesis: {done}/{self._total} files, {left:.0f} s left"
        ends = ("\r", "\n" if done == self._total else "") if self._terminal else ("", "\n")
        print(f"{ends[0]}{line}  ", end=ends[1], file=sys.stderr, flush=True)


def make_audio(todo: dict[Path, Utterance], rate: int, nj: int) -> None:
    """Synthesise the files of `todo`.

    Raises:
        ValueError: some could not be made; the reasons are in the log.
    """
    espeak = Espeak()

    def task(path: Path, utterance: Utterance) -> Callable[[], None]:
        def make() -> None:
            speech = espeak.say(" ".join(utterance.words), utterance.delivery)
            write_wav(path, record(speech, espeak.sample_rate, rate, utterance.recording), rate)

        return make

    for directory in {path.parent for path in todo}:
        directory.mkdir(parents=True, exist_ok=True)
    tasks = [task(path, utterance) for path, utterance in todo.items()]
    failed = in_children(tasks, nj, Progress(len(tasks)))
    if failed:
        raise ValueError(f"{failed} of {len(tasks)} files could not be made; see the lines above")


def make_corpus(config: dict[str, Any], output: Path, nj: int) -> None:
    """Make whatever is missing of the corpus in `output`.

    Raises:
        ValueError: the configuration is unusable, or files could not be made.
    """
    check(config)
    audio = output / "audio"
    stamp = audio / "identity"
    current = identity(config)
    if audio.exists() and not stamp.is_file():
        raise ValueError(
            f"{audio}: not made by this program; remove it, or choose another --output"
        )
    if audio.exists() and stamp.read_text() != current:
        logging.warning("%s: made with other settings, making it anew", audio)
        shutil.rmtree(audio)
    write_atomically(stamp, current)
    sets = {name: plan(config, name) for name in SETS}
    paths = {u.name: audio / s / f"{u.name}.wav" for s, utts in sets.items() for u in utts}
    todo = {paths[u.name]: u for utts in sets.values() for u in utts if not paths[u.name].is_file()}
    if todo:
        make_audio(todo, config["sample_rate"], nj)
    for name, utterances in sets.items():
        tables = {
            "wav.scp": {u.name: str(paths[u.name]) for u in utterances},
            "text": {u.name: u.text for u in utterances},
        }
        write_data_dir(output / name, {u.name: u.speaker for u in utterances}, tables)
        logging.info("%s: %d utterances", output / name, len(utterances))


def get_parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    parser = StrictParser(description=__doc__.split("\n")[0])
    parser.add_argument("--config", type=Path, default=Path("conf/corpus.yaml"))
    parser.add_argument(
        "--output", type=Path, default=Path("data"), help="data directories go here"
    )
    parser.add_argument("--seed", type=int, help="default: the configuration's")
    parser.add_argument("--sample_rate", type=int, help="default: the configuration's")
    for name in SETS:
        parser.add_argument(f"--num_{name}", type=int, help=f"utterances of the {name} set")
    cores = len(os.sched_getaffinity(0))
    parser.add_argument("--nj", type=int, default=cores, help="processes, default one per core")
    return parser


def read_config(args: argparse.Namespace) -> dict[str, Any]:
    """Return the configuration with the command line's overrides."""
    config: dict[str, Any] = yaml.safe_load(args.config.read_text(encoding="utf-8"))
    for name in ("seed", "sample_rate"):
        if getattr(args, name) is not None:
            config[name] = getattr(args, name)
    for name in SETS:
        count = getattr(args, f"num_{name}")
        if count is not None:
            config["num_utterances"][name] = count
    return config


def main(argv: list[str] | None = None) -> int:
    """Make the corpus; returns the exit status."""
    args = get_parser().parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    try:
        make_corpus(read_config(args), args.output, max(1, args.nj))
    except (ValueError, OSError, yaml.YAMLError) as error:
        logging.error("%s", error)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
