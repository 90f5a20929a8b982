#!/usr/bin/env python3
"""Make Switchboard's Kaldi data directories, lexicon and language-model text.

Training: LDC97S62 (audio) with the Mississippi State transcripts and dictionary. Tests: Hub5'00
(LDC2002S09, LDC2002T43), Hub5'01 (LDC2002S13), RT03 (LDC2007S10), each if its path is given. Text
for the language model: the training transcripts and, if given, Fisher (LDC2004T19, LDC2005T19).
Everything is read and checked before anything is written.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import fisher
import hub5_sets
import ldc_paths
import ms98_dictionary
import subsets
from audio import Recordings, check_recordings, check_times, readable, write_recordings
from ms98_transcripts import Utterance, read_transcripts
from ms98_words import UNKNOWN

from espnet_plugin.corpora.atomic import write_atomically
from espnet_plugin.corpora.corpus_error import CorpusError
from espnet_plugin.corpora.kaldi_dir import write_data_dir, write_table
from espnet_plugin.corpora.preparation import run_preparation
from espnet_plugin.corpora.strict_parser import StrictParser

# LDC97S62 has 2,438 conversations; older copies lack three of them.
CONVERSATIONS = (2435, 2438)


@dataclass(frozen=True)
class Corpus:
    """Everything that was read."""

    utterances: dict[str, Utterance]
    lexicon: ms98_dictionary.Dictionary
    spelled: dict[str, str]
    recordings: Recordings
    tests: list[hub5_sets.TestSet]
    fisher: list[Path]


def read_corpus(args: argparse.Namespace) -> Corpus:
    """Read and check all parts.

    Raises:
        ValueError: anything is wrong; all problems are listed at once.
    """
    problems: list[str] = []
    ms98 = ldc_paths.require(ldc_paths.MS98, args.swbd_ms98)
    dictionary = ms98_dictionary.read_dictionary(ms98 / ldc_paths.MS98.marker, problems)
    lexicon, spelled = ms98_dictionary.make_lexicon(dictionary)
    utterances, conversations = read_transcripts(ms98, spelled, problems)
    files = _training_audio(args, conversations, problems)
    recordings = check_recordings(files, problems)
    tests = _read_tests(args, problems)
    texts = []
    for part in ldc_paths.FISHER:
        if getattr(args, part.option) is not None:
            try:
                texts.append(ldc_paths.require(part, getattr(args, part.option)))
            except ValueError as error:
                problems.append(str(error))
    utterances = {n: u for n, u in utterances.items() if u.recording in recordings or problems}
    times = [(u.name, u.recording, u.begin) for u in utterances.values()]
    check_times(times, recordings, problems)
    utterances = _without_unknown_words(utterances, lexicon, args, problems)
    if problems:
        raise CorpusError(args.swbd, "Switchboard", list(dict.fromkeys(problems)))
    return Corpus(utterances, lexicon, spelled, recordings, tests, texts)


def _training_audio(
    args: argparse.Namespace, conversations: set[str], problems: list[str]
) -> dict[str, Path]:
    """SPHERE files of the transcribed conversations."""
    if not args.swbd.is_dir():
        problems.append(f"--swbd {args.swbd}: no such folder; it is where LDC97S62 was unpacked")
        return {}
    files = ldc_paths.find_recordings(args.swbd)
    lacking = sorted(name for name in conversations if name not in files)
    if lacking and args.allow_missing_audio:
        logging.warning("no audio of %d conversations: %s", len(lacking), " ".join(lacking[:20]))
    elif lacking:
        listed = ", ".join(f"{name}.sph" for name in lacking[:10])
        above = ldc_paths.recordings_near(args.swbd.absolute().parent)
        remedy = "copy the missing discs, or leave these out with --allow_missing_audio"
        if all(name in above for name in lacking):
            remedy = f"the folder above has them: give --swbd {args.swbd.absolute().parent}"
        problems.append(
            f"{args.swbd}: no audio of {len(lacking)} of {len(conversations)} transcribed "
            f"conversations: {listed}{', ...' if len(lacking) > 10 else ''}; {remedy}"
        )
    if len(conversations) not in CONVERSATIONS and not args.allow_subset:
        problems.append(
            f"{args.swbd_ms98}: transcripts of {len(conversations)} conversations, the corpus has "
            "2438; unpack them again, or accept fewer with --allow_subset"
        )
    return {name: files[name] for name in conversations if name in files}


def _read_tests(args: argparse.Namespace, problems: list[str]) -> list[hub5_sets.TestSet]:
    found: list[hub5_sets.TestSet | None] = []
    if args.eval2000_audio is not None or args.eval2000_text is not None:
        if args.eval2000_audio is None or args.eval2000_text is None:
            problems.append(
                "Hub5'00 needs both its audio (--eval2000_audio, LDC2002S09) and its references "
                "(--eval2000_text, LDC2002T43)"
            )
        else:
            found.append(hub5_sets.read_eval2000(args.eval2000_audio, args.eval2000_text, problems))
    if args.hub5e01 is not None:
        if args.eval2000_text is None:
            problems.append("Hub5'01 is scored by Hub5'00's rules: --hub5e01 needs --eval2000_text")
        elif (args.eval2000_text / ldc_paths.EVAL2000_TEXT.marker).is_file():  # else told above
            glm = args.eval2000_text / "reference" / "en20000405_hub5.glm"
            found.append(hub5_sets.read_hub5e01(args.hub5e01, glm, problems))
    if args.rt03 is not None:
        found.append(hub5_sets.read_rt03(args.rt03, problems))
    return [one for one in found if one is not None]


def _without_unknown_words(
    utterances: dict[str, Utterance],
    lexicon: ms98_dictionary.Dictionary,
    args: argparse.Namespace,
    problems: list[str],
) -> dict[str, Utterance]:
    """Replace words that the dictionary lacks by ``<unk>``; many of them are a problem."""
    unknown = Counter(w for u in utterances.values() for w in u.words if w not in lexicon)
    running = sum(len(u.words) for u in utterances.values())
    share = sum(unknown.values()) / max(1, running)
    if share > args.max_unknown and not problems:  # which may be the cause
        listed = ", ".join(f"{word} ({count})" for word, count in unknown.most_common(10))
        problems.append(
            f"{args.swbd_ms98}/{ldc_paths.MS98.marker}: {100 * share:.1f} % of the transcripts' "
            f"words have no pronunciation: {listed}; complete the dictionary, or allow more with "
            "--max_unknown"
        )
    elif unknown:
        listed = " ".join(word for word, _ in unknown.most_common(20))
        logging.warning(
            "%d words (%.3f %% of the running ones) have no pronunciation and become %s: %s",
            *(len(unknown), 100 * share, UNKNOWN, listed),
        )

    def known(words: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(word if word in lexicon else UNKNOWN for word in words)

    return {name: replace(one, words=known(one.words)) for name, one in utterances.items()}


def write_corpus(corpus: Corpus, args: argparse.Namespace) -> None:
    """Write all data directories below ``args.output``."""
    output, utterances = args.output, corpus.utterances
    text = {name: " ".join(utterance.words) for name, utterance in utterances.items()}
    train, dev = subsets.split(utterances, args.dev_utts)
    kept = subsets.limit_repeats(train, text, args.max_repeats)
    logging.info("training: %d of %d utterances (--max_repeats)", len(kept), len(train))
    expanded = output / "local" / "expanded"
    files = readable(corpus.recordings, expanded / "swbd", args.nj)
    for name, chosen in (("train_nodup", kept), ("train_dev", dev)):
        rows = {n: utterances[n] for n in chosen}
        tables = {
            "text": {n: text[n] for n in rows},
            "segments": {n: u.segment for n, u in rows.items()},
        }
        write_data_dir(output / name, {n: u.speaker for n, u in rows.items()}, tables)
        write_recordings(output / name, {u.speaker for u in rows.values()}, files)
        _log_set(output / name, [u.end - u.begin for u in rows.values()])
    for found in corpus.tests:
        sides = hub5_sets.write_set(output / found.name, found)
        files = readable(found.recordings, expanded / found.name, args.nj)
        write_recordings(output / found.name, sides, files)
        seconds = [s.end - s.begin for s in found.stm.segments if not s.ignored]
        _log_set(output / found.name, seconds)
    local = output / "local"
    write_atomically(local / "lexicon.txt", ms98_dictionary.lexicon_text(corpus.lexicon))
    write_table(local / "acronyms", corpus.spelled)
    write_atomically(local / "lm_train.txt", "".join(_lm_lines(corpus, kept, text)))


def _lm_lines(corpus: Corpus, kept: list[str], text: dict[str, str]) -> Iterator[str]:
    """The language model's text in Kaldi's form; unknown words of Fisher become ``<unk>``."""
    yield from (f"{name} {text[name]}\n" for name in kept)
    count = 0
    for root in corpus.fisher:
        for words in fisher.sentences(root):
            known = (word if word in corpus.lexicon else UNKNOWN for word in words)
            yield f"fisher-{count:08d} {' '.join(known)}\n"
            count += 1
    if corpus.fisher:
        logging.info("language model: %d segments of Fisher", count)


def _log_set(directory: Path, seconds: list[float]) -> None:
    logging.info("%s: %d utterances, %.2f h", directory, len(seconds), sum(seconds) / 3600)


def get_parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    parser = StrictParser(description=__doc__.split("\n")[0])

    def folder(text: str) -> Path | None:
        return Path(text) if text else None  # unset in db.sh

    parser.add_argument("--swbd", type=Path, required=True, help="LDC97S62")
    parser.add_argument("--swbd_ms98", type=Path, required=True, help="swb_ms98_transcriptions")
    parser.add_argument("--eval2000_audio", type=folder, help="LDC2002S09/hub5e_00")
    parser.add_argument("--eval2000_text", type=folder, help="LDC2002T43/2000_hub5_eng_eval_tr")
    parser.add_argument("--hub5e01", type=folder, help="LDC2002S13/hub5e_01")
    parser.add_argument("--rt03", type=folder, help="LDC2007S10")
    parser.add_argument("--fisher_p1", type=folder, help="LDC2004T19/fe_03_p1_tran")
    parser.add_argument("--fisher_p2", type=folder, help="LDC2005T19/fe_03_p2_tran")
    parser.add_argument("--output", type=Path, default=Path("data"))
    parser.add_argument("--dev_utts", type=int, default=4000)
    parser.add_argument(
        "--max_repeats", type=int, default=300, help="training utterances that say the same"
    )
    parser.add_argument(
        "--max_unknown", type=float, default=0.01, help="share of words without pronunciation"
    )
    parser.add_argument(
        "--allow_subset", action="store_true", help="accept fewer conversations than 2,438"
    )
    parser.add_argument(
        "--allow_missing_audio", action="store_true", help="leave out transcripts without audio"
    )
    cores = len(os.sched_getaffinity(0))
    parser.add_argument("--nj", type=int, default=cores, help="recordings expanded at once")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Prepare the corpus; returns the exit status."""
    args = get_parser().parse_args(argv)
    return run_preparation(lambda: write_corpus(read_corpus(args), args))


if __name__ == "__main__":
    sys.exit(main())
