#!/usr/bin/env python3
"""Make AN4's Kaldi data directories: train_nodev (848), train_dev (100), test (130 utterances).

Reads the audio distribution (16 kHz SPHERE files) or the cepstra distribution (13 cepstra per
10 ms), as a folder or as the ``.tar.gz`` it comes in; without ``--an4_root`` the audio is
downloaded. The split is the one of ESPnet's own AN4 recipe: ids ``<speaker>-<utterance>``, sorted,
the first 100 training utterances are the development set.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Iterable
from pathlib import Path

import cepstra
import corpus
import numpy as np

from espnet_plugin.corpora.atomic import write_atomically
from espnet_plugin.corpora.download import download, unpack
from espnet_plugin.corpora.kaldi_dir import write_ark, write_data_dir
from espnet_plugin.corpora.preparation import run_preparation
from espnet_plugin.corpora.strict_parser import StrictParser

URL = "http://www.speech.cs.cmu.edu/databases/an4/an4_sphere.tar.gz"


def pick(table: dict[str, str], utterances: Iterable[str]) -> dict[str, str]:
    """Return the part of a table that belongs to `utterances`."""
    return {utterance: table[utterance] for utterance in utterances}


def split(subsets: dict[str, corpus.Subset], dev_utts: int) -> dict[str, tuple[str, list[str]]]:
    """Return {set name: (subset it comes from, its utterances)} in ESPnet's split.

    Raises:
        ValueError: the training data has no more than `dev_utts` utterances.
    """
    train = sorted(subsets["train"].text)
    if not 0 < dev_utts < len(train):
        raise ValueError(
            f"--dev_utts {dev_utts} must lie between 1 and {len(train) - 1}: "
            f"the training data has {len(train)} utterances"
        )
    return {
        "train_nodev": ("train", train[dev_utts:]),
        "train_dev": ("train", train[:dev_utts]),
        "test": ("test", sorted(subsets["test"].text)),
    }


def read_corpus(
    root: Path, allow_subset: bool
) -> tuple[dict[str, corpus.Subset], dict[str, np.ndarray] | None]:
    """Read and check the whole corpus; the second value is None for the audio distribution.

    Raises:
        ValueError: anything is wrong with this copy; all problems are listed at once.
    """
    problems: list[str] = []
    audio = corpus.layout(root) == "audio"
    subsets, features = {}, {}
    for name in corpus.SUBSETS:
        subsets[name] = corpus.read_subset(root, name, problems)
        if audio:
            corpus.check_recordings(subsets[name], problems)
        else:
            features.update(corpus.read_features(subsets[name], problems))
        found, wanted = len(subsets[name].text), corpus.UTTERANCES[name]
        if not allow_subset and found != wanted:
            problems.append(
                f"{name}: {found} usable utterances, the corpus has {wanted} "
                "(--allow_subset accepts fewer)"
            )
    if problems:
        raise corpus.CorpusError(root, problems)
    return subsets, None if audio else features


def prepare(
    root: Path,
    output: Path,
    dev_utts: int = 100,
    allow_subset: bool = False,
    mel_channels: int = 0,
) -> None:
    """Write the data directories and the lexicon of the corpus under `root` into `output`.

    Args:
        mel_channels: turn cepstra into so many log-mel channels; 0 keeps them.

    Raises:
        ValueError: anything is wrong with this copy, or with `dev_utts`; nothing is written.
    """
    subsets, features = read_corpus(root, allow_subset)
    sets = split(subsets, dev_utts)
    scp: dict[str, str] = {}
    if features is not None:
        if mel_channels:
            features = {u: cepstra.to_mel(feats, mel_channels) for u, feats in features.items()}
        for name in corpus.SUBSETS:
            rows = ((utterance, features[utterance]) for utterance in sorted(subsets[name].text))
            scp.update(write_ark(output / "feats" / f"{name}.ark", rows))
    for name, (source, utterances) in sets.items():
        subset = subsets[source]
        tables = {"text": pick(subset.text, utterances)}
        if features is None:
            tables["wav.scp"] = {u: str(subset.recordings[u]) for u in utterances}
        else:
            tables["feats.scp"] = pick(scp, utterances)
            tables["utt2num_frames"] = {u: str(len(features[u])) for u in utterances}
        write_data_dir(output / name, pick(subset.utt2spk, utterances), tables)
        logging.info("%s: %d utterances", output / name, len(utterances))
    lexicon = corpus.read_lexicon(root)
    if lexicon:
        write_atomically(output / "local" / "lexicon.txt", "\n".join(lexicon) + "\n")


def locate(an4_root: Path | None, downloads: Path, url: str, sha256: str | None) -> Path:
    """Return the corpus's folder, downloading and unpacking where that is needed.

    Raises:
        ValueError: there is no corpus at the given place.
    """
    if an4_root is None:
        an4_root = download(url, downloads / url.rsplit("/", 1)[-1], sha256=sha256)
    if an4_root.is_file():
        an4_root = unpack(an4_root, downloads / an4_root.name.split(".")[0])
    if not an4_root.is_dir():
        raise ValueError(f"--an4_root {an4_root}: no such folder or archive")
    return corpus.find_root(an4_root)


def get_parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    parser = StrictParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "--an4_root", type=Path, help="folder or .tar.gz of AN4; without it, the audio is fetched"
    )
    parser.add_argument(
        "--output", type=Path, default=Path("data"), help="data directories go here"
    )
    parser.add_argument("--downloads", type=Path, default=Path("downloads"))
    parser.add_argument("--url", default=URL, help="where the audio archive is fetched from")
    parser.add_argument("--sha256", help="refuse a downloaded archive with another checksum")
    parser.add_argument("--dev_utts", type=int, default=100, help="size of the development set")
    parser.add_argument(
        "--mel_channels",
        type=int,
        default=0,
        help="turn cepstra into so many log-mel channels (inverse cosine transform); 0: keep",
    )
    parser.add_argument(
        "--allow_subset", action="store_true", help="accept a copy with fewer utterances"
    )
    return parser


def main(argv: list[str] | None = None) -> int:
    """Prepare the corpus; returns the exit status."""
    args = get_parser().parse_args(argv)

    def work() -> None:
        root = locate(args.an4_root, args.downloads, args.url, args.sha256)
        prepare(root, args.output, args.dev_utts, args.allow_subset, args.mel_channels)

    return run_preparation(work)


if __name__ == "__main__":
    sys.exit(main())
