#!/usr/bin/env python3
"""Speak sentences of the demo's grammar without end, as records of a stream (docs/data.md).

Utterance N is a function of the configuration, --seed and N: words, voice and conditions are drawn
like those of a training set, and a new process speaks each block of sentences from its beginning,
so that the bytes are the same wherever the program starts. Nothing goes to a disk.
"""

from __future__ import annotations

import argparse
import functools
import logging
import os
import sys
from pathlib import Path
from typing import Any

import yaml
from acoustics import record
from data import in_children
from espeak import Espeak
from plan import check, stream_utterance

from espnet_plugin.corpora.strict_parser import StrictParser
from espnet_plugin.data.stream.records import Record, encode

#: Sentences of one process: a fork costs as much as speaking two, and what is said depends on what
#: was said before.
BLOCK = 16


def get_parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    parser = StrictParser(description=__doc__.split("\n")[0])
    parser.add_argument("--config", type=Path, default=Path("conf/corpus.yaml"))
    parser.add_argument("--sample_rate", type=int, help="default: the configuration's")
    parser.add_argument("--seed", type=int, default=1, help="of the sentences, not the corpus's")
    parser.add_argument("--skip", type=int, default=0, help="utterances to pass over")
    parser.add_argument("--step", type=int, default=1, help="speak every STEP-th from there")
    parser.add_argument("--count", type=int, help="utterances to speak (default: no end)")
    return parser


def speak(
    espeak: Espeak, config: dict[str, Any], seed: int, rate: int, block: range, wanted: range
) -> None:
    """Speak all sentences of a block, and write the records of those that are wanted.

    Args:
        rate: of the records, Hz.
        block: numbers of the sentences that one process speaks.
        wanted: numbers of the sentences to write.
    """
    for number in block:
        utterance = stream_utterance(config, seed, number)
        speech = espeak.say(" ".join(utterance.words), utterance.delivery)
        if number not in wanted:
            continue
        samples = record(speech, espeak.sample_rate, rate, utterance.recording, quick=True)
        content = memoryview(encode(Record(number, utterance.name, utterance.text, samples, rate)))
        while content:  # a pipe takes what fits
            content = content[os.write(sys.stdout.fileno(), content) :]


def run(args: argparse.Namespace) -> int:
    """Speak block after block; returns the exit status.

    Raises:
        ValueError: the configuration or the arguments are unusable.
    """
    config = yaml.safe_load(args.config.read_text(encoding="utf-8"))
    check(config)
    if args.skip < 0 or args.step < 1:
        raise ValueError("--skip counts from 0, --step from 1")
    last = sys.maxsize if args.count is None else args.skip + args.count * args.step
    wanted = range(args.skip, last, args.step)
    espeak, rate = Espeak(), args.sample_rate or config["sample_rate"]
    for begin in range(args.skip - args.skip % BLOCK, last, BLOCK):
        block = range(begin, min(begin + BLOCK, last))
        task = functools.partial(speak, espeak, config, args.seed, rate, block, wanted)
        if in_children([task], 1, lambda done: None):
            return 1  # the child has said why
    return 0


def main(argv: list[str] | None = None) -> int:
    """Speak; returns the exit status."""
    args = get_parser().parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    try:
        return run(args)
    except (ValueError, OSError, yaml.YAMLError) as error:
        logging.error("%s", error)
        return 1


if __name__ == "__main__":
    sys.exit(main())
