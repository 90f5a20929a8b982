#!/usr/bin/env python3
"""Download LibriSpeech and make its Kaldi data directories, lexicon and language-model files.

data/{train_*,dev_clean,dev_other,test_clean,test_other} are the corpus's parts,
data/train_clean_460 and data/train_960 the usual unions, data/dev the two development parts
together. Whatever is wrong with the corpus is told at once, and nothing is written then.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import openslr
import parts
from acquire import LIBRISPEECH, Source, acquire
from language import official_lexicon, prepare_lm_text, require_reader
from parts import Part

from espnet_plugin.corpora.corpus_error import CorpusError
from espnet_plugin.corpora.kaldi_dir import write_data_dir, write_table
from espnet_plugin.corpora.preparation import run_preparation
from espnet_plugin.corpora.strict_parser import StrictParser
from espnet_plugin.data.check.measure import Request
from espnet_plugin.data.check.measure_all import measure_all
from espnet_plugin.data.lexicon import write_lexicon

SAMPLE_RATE = 16000
EVALUATION = ("dev-clean", "dev-other", "test-clean", "test-other")
TRAINING = {
    "100": ("train_clean_100", ("train-clean-100",)),
    "460": ("train_clean_460", ("train-clean-100", "train-clean-360")),
    "960": ("train_960", ("train-clean-100", "train-clean-360", "train-other-500")),
}


def check_audio(part: Part, cache: Path, nj: int, name: str, problems: list[str]) -> float:
    """Check every recording of a part; returns its hours."""
    requests = {key: Request(str(path), "audio", False) for key, path in part.audio.items()}
    samples = 0
    for key, found in measure_all(requests, nj=nj, cache=cache, name=name).items():
        if found.problem:
            problems.append(f"{found.problem}; unpack its archive again")
        elif found.rate != SAMPLE_RATE or found.width != 1:
            problems.append(
                f"{part.audio[key]}: {found.rate} Hz, {found.width} channel(s), where the corpus "
                f"has {SAMPLE_RATE} Hz mono; unpack its archive again"
            )
        samples += found.frames
    return samples / SAMPLE_RATE / 3600


def read_corpus(
    root: Path, wanted: Sequence[str], cache: Path, nj: int, allow_subset: bool
) -> dict[str, Part]:
    """Read and check the wanted parts.

    Raises:
        CorpusError: anything is wrong with this copy; all problems are listed at once.
    """
    problems: list[str] = []
    readers = parts.read_speakers(root / parts.SPEAKERS, problems)
    found = {}
    for name in wanted:
        found[name] = parts.read_part(root, name, readers, problems)
        hours = check_audio(found[name], cache / f"{name}.json", nj, name, problems)
        if not allow_subset:
            parts.check_size(root, name, found[name], problems)
        logging.info("%s: %d utterances, %.1f h", name, len(found[name].text), hours)
    if problems:
        raise CorpusError(root, LIBRISPEECH, problems)
    return found


def write_set(directory: Path, members: Sequence[Part]) -> None:
    """Write the union of some parts as one data directory."""
    joined = Part()
    for part in members:
        joined.text.update(part.text)
        joined.utt2spk.update(part.utt2spk)
        joined.audio.update(part.audio)
        joined.gender.update(part.gender)
    scp = {utterance: str(path) for utterance, path in joined.audio.items()}
    write_data_dir(directory, joined.utt2spk, {"text": joined.text, "wav.scp": scp})
    write_table(directory / "spk2gender", joined.gender)
    logging.info("%s: %d utterances", directory, len(joined.text))


def _size(source: Source, resource: openslr.Resource) -> int:
    """Bytes of a resource: of the user's file, where there is one."""
    given = source.resources / resource.name if source.resources else None
    return given.stat().st_size if given and given.is_file() else resource.size or 0


def prepare(source: Source, args: argparse.Namespace) -> None:
    """Make everything that the options ask for.

    Raises:
        ValueError: anything is wrong with the corpus, the resources, the options or the disk.
        OSError: no mirror can be reached.
    """
    train_set, training = TRAINING[args.train_parts]
    wanted = [*EVALUATION, *training]
    resources = [openslr.LEXICON]
    if args.word_lm != "none":
        resources.append(openslr.WORD_LMS[args.word_lm])
        require_reader(args.word_lm, _size(source, resources[-1]))
    if args.lm_text:
        resources.append(openslr.LM_TEXT)
    also = openslr.LM_TEXT_UNPACKED if args.lm_text and source.resources is None else 0
    root, files = acquire(source, wanted, resources, also)
    local = args.output / "local"
    lexicon = official_lexicon(files[openslr.LEXICON.name], args.allow_subset)
    found = read_corpus(root, wanted, local / "measured", args.nj, args.allow_subset)
    write_lexicon(local / "lexicon.txt", lexicon)
    for name, part in found.items():
        write_set(args.output / name.replace("-", "_"), [part])
    if len(training) > 1:
        write_set(args.output / train_set, [found[name] for name in training])
    write_set(args.output / "dev", [found["dev-clean"], found["dev-other"]])
    if args.word_lm != "none":
        link = local / "word_lm.arpa.gz"
        link.unlink(missing_ok=True)
        link.symlink_to(files[openslr.WORD_LMS[args.word_lm].name])
    if args.lm_text:
        prepare_lm_text(files[openslr.LM_TEXT.name], local / "lm_train.txt")


def get_parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    parser = StrictParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "--librispeech", type=Path, help="folder with LibriSpeech/; without it, it is downloaded"
    )
    parser.add_argument(
        "--lm_resources",
        type=Path,
        help="folder with the lexicon and language models of OpenSLR 11; without it, downloaded",
    )
    parser.add_argument("--train_parts", choices=list(TRAINING), default="960", help="hours")
    parser.add_argument(
        "--word_lm", choices=[*openslr.WORD_LMS, "none"], default="4-gram", help="of OpenSLR 11"
    )
    parser.add_argument(
        "--lm_text", action="store_true", help="text for a neural language model, 5 GB"
    )
    parser.add_argument("--output", type=Path, default=Path("data"))
    parser.add_argument("--downloads", type=Path, default=Path("downloads"))
    parser.add_argument(
        "--remove_archives", action="store_true", help="delete archives once they are unpacked"
    )
    parser.add_argument(
        "--mirrors", nargs="+", default=openslr.MIRRORS, help="addresses, tried in this order"
    )
    parser.add_argument("--checksums", type=Path, help="file of md5sum's form; overrides ours")
    parser.add_argument(
        "--allow_subset", action="store_true", help="accept parts with fewer utterances"
    )
    cores = len(os.sched_getaffinity(0))
    parser.add_argument("--nj", type=int, default=cores, help="processes that check audio")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Prepare the corpus; returns the exit status."""
    args = get_parser().parse_args(argv)

    def work() -> None:
        checksums = openslr.read_checksums(args.checksums) if args.checksums else {}
        source = Source(
            args.librispeech,
            args.lm_resources,
            args.downloads,
            args.mirrors,
            checksums,
            args.remove_archives,
        )
        prepare(source, args)

    return run_preparation(work)


if __name__ == "__main__":
    sys.exit(main())
