#!/usr/bin/env python3
"""Make Mboshi's Kaldi data directories: train (4,188), dev (300), test (514 utterances).

Reads the corpus's repository (16 kHz WAV files) or the tar of Ogg Opus files, as a folder or as the
archive. test is what the corpus calls dev. dev is three whole recording sessions of the corpus's
training part, one of each speaker, and whoever speaks one of its sentences elsewhere is left out of
train, so that no sentence of dev is in train; so the corpus cut its own two parts. Transcripts are
brought to the composed form of Unicode (NFC): a vowel with its tone is one character.

utt2spk names sessions: with three speakers, a bootstrap over speakers would say nothing.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Collection
from pathlib import Path

import corpus
from corpus import Part

from espnet_plugin.corpora.corpus_error import CorpusError
from espnet_plugin.corpora.download import unpack
from espnet_plugin.corpora.kaldi_dir import write_data_dir
from espnet_plugin.corpora.ogg import check_ogg
from espnet_plugin.corpora.preparation import run_preparation
from espnet_plugin.corpora.strict_parser import StrictParser
from espnet_plugin.data.check.measure import Request
from espnet_plugin.data.check.measure_all import measure_all

SAMPLE_RATE = 16000
# 180 + 58 + 62 = 300 utterances, all different sentences.
DEV_SESSIONS = (
    "abiayi_2015-09-10-11-25-36",
    "kouarata_2015-08-14-04-17-01",
    "martial_2015-09-07-14-53-15",
)


def check_audio(part: Part, nj: int, name: str, problems: list[str]) -> None:
    """Check every recording of a part, and log its hours."""
    requests = {key: Request(str(path), "audio", False) for key, path in part.audio.items()}
    samples = 0
    for key, found in measure_all(requests, nj=nj, name=name).items():
        path = part.audio[key]
        samples += found.frames
        if found.problem:
            problems.append(f"{found.problem}; fetch it again")
        elif found.rate != SAMPLE_RATE or found.width != 1:
            problems.append(
                f"{path}: {found.rate} Hz, {found.width} channel(s), where the corpus has "
                f"{SAMPLE_RATE} Hz mono; fetch it again"
            )
        elif path.suffix == ".opus":
            try:
                check_ogg(path)
            except ValueError as error:
                problems.append(str(error))
    hours = samples / SAMPLE_RATE / 3600
    logging.info("%s: %d utterances, %.2f h", name, len(part.text), hours)


def read_corpus(root: Path, repository: bool, nj: int, allow_subset: bool) -> dict[str, Part]:
    """Read and check both parts.

    Raises:
        CorpusError: anything is wrong with this copy; all problems are listed at once.
    """
    problems: list[str] = []
    parts = corpus.read_parts(root, repository, problems)
    for name, part in parts.items():
        check_audio(part, nj, name, problems)
    if not allow_subset:
        corpus.check_sizes(root, parts, problems)
    if problems:
        raise CorpusError(root, "Mboshi", problems)
    return parts


def split(train: Part, dev_sessions: Collection[str]) -> dict[str, list[str]]:
    """Cut the training part into train and dev; sentences of dev are left out of train.

    Raises:
        ValueError: a session has no utterance, or nothing is left for train.
    """
    sessions = {utterance: corpus.session(utterance) for utterance in sorted(train.text)}
    absent = sorted(set(dev_sessions) - set(sessions.values()))
    if absent or not dev_sessions:
        raise ValueError(
            f"--dev_sessions: no utterance of the training part is of {', '.join(absent) or 'none'}"
            f"; choose some of {', '.join(sorted(set(sessions.values())))}"
        )
    dev = [utterance for utterance, name in sessions.items() if name in dev_sessions]
    spoken = {train.text[utterance] for utterance in dev}
    rest = [utterance for utterance in sessions if utterance not in set(dev)]
    kept = [utterance for utterance in rest if train.text[utterance] not in spoken]
    logging.info("train: %d utterances left out, whose sentences dev has", len(rest) - len(kept))
    if not kept:
        raise ValueError("--dev_sessions: nothing is left for train; choose fewer")
    return {"train": kept, "dev": dev}


def write_set(directory: Path, part: Part, utterances: Collection[str]) -> None:
    """Write some utterances of a part as one data directory.

    Opus takes 10 ms to decode an utterance, in every epoch: a segment, which is all of the
    recording, makes step 2 write it as FLAC once.
    """
    tables = {
        "text": {u: part.text[u] for u in utterances},
        "wav.scp": {u: str(part.audio[u]) for u in utterances},
    }
    if any(part.audio[u].suffix == ".opus" for u in utterances):
        tables["segments"] = {u: f"{u} 0 -1" for u in utterances}
    write_data_dir(directory, {u: corpus.session(u) for u in utterances}, tables)
    logging.info("%s: %d utterances", directory, len(utterances))


def prepare(args: argparse.Namespace) -> None:
    """Write the three data directories.

    Raises:
        ValueError: anything is wrong with this copy or the options; nothing is written then.
    """
    place = args.mboshi.absolute()
    if place.is_file():
        place = unpack(place, args.downloads.absolute() / place.name.split(".")[0])
    if not place.is_dir():
        raise ValueError(f"--mboshi {args.mboshi}: no such folder or archive")
    root, repository = corpus.find_root(place)
    parts = read_corpus(root, repository, args.nj, args.allow_subset)
    cut = split(parts["train"], args.dev_sessions)
    if not parts["test"].text:
        raise ValueError(f"{root}: no test utterance; fetch the corpus's dev part as well")
    for name, utterances in cut.items():
        write_set(args.output / name, parts["train"], utterances)
    write_set(args.output / "test", parts["test"], sorted(parts["test"].text))


def get_parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    parser = StrictParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "--mboshi", type=Path, required=True, help="the repository, its archive, or the Opus tar"
    )
    parser.add_argument("--output", type=Path, default=Path("data"))
    parser.add_argument(
        "--downloads", type=Path, default=Path("downloads"), help="an archive is unpacked here"
    )
    parser.add_argument(
        "--dev_sessions", nargs="+", default=DEV_SESSIONS, help="sessions that dev consists of"
    )
    parser.add_argument(
        "--allow_subset", action="store_true", help="accept a copy with fewer utterances"
    )
    cores = len(os.sched_getaffinity(0))
    parser.add_argument("--nj", type=int, default=cores, help="processes that check audio")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Prepare the corpus; returns the exit status."""
    args = get_parser().parse_args(argv)
    return run_preparation(lambda: prepare(args))


if __name__ == "__main__":
    sys.exit(main())
