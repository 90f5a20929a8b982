"""Check a Kaldi data directory before training on it.

    python -m espnet_plugin.bin.check_data --data_dir data/train --fs 16000 \\
        --token_list data/token_list/char/tokens.txt --token_type char \\
        --config exp/tag/align/config.yaml --write_filtered dump/raw/train

Utterances of no use are counted and named in skipped_utts; the filtered copy lacks them. Faults
after which nothing can go on are all listed, and the exit status is 2.
"""

from __future__ import annotations

import argparse
import dataclasses
import logging
import sys
from pathlib import Path

import yaml

from espnet_plugin.corpora.strict_parser import StrictParser
from espnet_plugin.data.check import FEATS_TYPES, CheckOptions, Report, check_data_dir
from espnet_plugin.data.checkpoint_vocabulary import check_checkpoint_vocabulary
from espnet_plugin.data.filtered import write_filtered, write_skipped
from espnet_plugin.data.kaldi_files import LISTED
from espnet_plugin.data.lexicon import read_lexicon
from espnet_plugin.data.model_frames import (
    ModelFrames,
    frames_from_config,
    parse_rate,
    parse_subsampling,
)
from espnet_plugin.data.symbols import read_symbols
from espnet_plugin.data.text_units import TOKEN_TYPES, make_tokenizer
from espnet_plugin.data.token_list import read_token_list


def get_parser() -> argparse.ArgumentParser:
    """Return the parser of this command."""
    parser = StrictParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data_dir", type=Path, required=True)
    parser.add_argument("--feats_type", choices=tuple(FEATS_TYPES), default="raw")
    parser.add_argument("--evaluation", action="store_true", help="a set that is only decoded")
    vocabulary = parser.add_argument_group("labels")
    vocabulary.add_argument("--token_list", type=Path)
    vocabulary.add_argument("--token_type", choices=TOKEN_TYPES)
    vocabulary.add_argument("--bpemodel", type=Path)
    vocabulary.add_argument("--nlsyms_txt", type=Path, help="symbols that are one character")
    vocabulary.add_argument("--lexicon", type=Path, help="of token type phn")
    vocabulary.add_argument("--topology", choices=("monotonic", "rnnt"), default="monotonic")
    vocabulary.add_argument("--alignment", type=Path, help="of the viterbi stage")
    vocabulary.add_argument("--nbest", type=Path, help="of the mbr stage")
    vocabulary.add_argument("--checkpoint", type=Path, help="model file to start from")
    frames = parser.add_argument_group("lengths")
    frames.add_argument("--config", type=Path, help="ESPnet ASR config: rate, hop, subsampling")
    frames.add_argument("--fs", type=parse_rate, help="sampling rate the model expects")
    frames.add_argument("--min_wav_duration", type=float, default=0.0, help="s; shorter goes out")
    frames.add_argument("--max_wav_duration", type=float, help="s; longer goes out")
    frames.add_argument("--hop", type=int, help="samples per feature frame (default: 10 ms)")
    frames.add_argument(
        "--subsampling",
        type=parse_subsampling,
        metavar="F,O",
        help="T = floor((T' - O) / F) encoder frames, e.g. 4,3 for conv2d",
    )
    effort = parser.add_argument_group("reading")
    effort.add_argument("--nj", type=int, default=1, help="processes")
    effort.add_argument("--scan", type=float, default=1.0, help="share of speech read in full")
    effort.add_argument("--cache", type=Path, help="file that remembers what was read")
    outcome = parser.add_argument_group("outcome")
    outcome.add_argument("--out", type=Path, help="folder of skipped_utts, without a copy")
    outcome.add_argument("--write_filtered", type=Path, help="data directory to write")
    outcome.add_argument("--allow_missing", action="store_true", help="ids not in all files go out")
    outcome.add_argument("--max_skipped", type=float, default=0.5, help="share that may go out")
    return parser


def main(cmd: list[str] | None = None) -> int:
    """Run the command; return 0, or 2 if nothing can go on."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s: %(message)s")
    args = get_parser().parse_args(cmd)
    try:
        options = options_from_args(args)
        if args.checkpoint is not None:
            if options.tokens is None:
                raise ValueError("--checkpoint needs --token_list to compare it with")
            check_checkpoint_vocabulary(args.checkpoint, options.tokens)
        report = check_data_dir(args.data_dir, options)
        _say(report, options)
        report.raise_errors()
        if args.write_filtered is not None:
            write_filtered(args.data_dir, args.write_filtered, report.skipped)
        elif args.out is not None:
            write_skipped(args.out, report.skipped)
    except ValueError as error:
        for message in str(error).split("\n"):
            logging.error("%s", message)
        return 2
    return 0


def options_from_args(args: argparse.Namespace) -> CheckOptions:
    """Turn the command line into what the check takes.

    Raises:
        ValueError: a file that is named cannot be read, or an option lacks its companion.
    """
    lexicon = tokenize = None
    if args.token_type == "phn":
        if args.lexicon is None:
            raise ValueError("--token_type phn needs --lexicon")
        lexicon = read_lexicon(args.lexicon)
    elif args.token_type is not None:
        tokenize = make_tokenizer(args.token_type, args.bpemodel, _symbols(args))
    return CheckOptions(
        feats_type=args.feats_type,
        frames=_frames(args),
        tokens=None if args.token_list is None else tuple(read_token_list(args.token_list)),
        tokenize=tokenize,
        lexicon=lexicon,
        durations=(args.min_wav_duration, args.max_wav_duration),
        topology=args.topology,
        evaluation=args.evaluation,
        alignment=args.alignment,
        nbest=args.nbest,
        allow_missing=args.allow_missing,
        scan=args.scan,
        max_skipped=args.max_skipped,
        nj=args.nj,
        cache=args.cache,
    )


def _symbols(args: argparse.Namespace) -> tuple[str, ...]:
    return () if args.nlsyms_txt is None else read_symbols(args.nlsyms_txt)


def _frames(args: argparse.Namespace) -> ModelFrames:
    frames = ModelFrames()
    if args.config is not None:
        try:
            config = yaml.safe_load(args.config.read_text(encoding="utf-8")) or {}
        except (OSError, yaml.YAMLError) as error:
            raise ValueError(f"{args.config}: cannot be read ({error})") from error
        frames = frames_from_config(config, args.feats_type)
        if frames.subsampling is None and args.subsampling is None:
            logging.warning(
                "%s: the encoder's subsampling is not known, so lengths are not checked; "
                "give --subsampling",
                args.config,
            )
    given = {"fs": args.fs, "hop": args.hop, "subsampling": args.subsampling}
    frames = dataclasses.replace(frames, **{k: v for k, v in given.items() if v is not None})
    if args.feats_type == "raw" and frames.hop is None:
        if frames.subsampling is not None and frames.fs is None:
            raise ValueError("--subsampling of raw audio needs --fs or --hop")
        frames = dataclasses.replace(frames, hop=frames.fs // 100 if frames.fs else None)
    return frames


def _say(report: Report, options: CheckOptions) -> None:
    for warning in report.warnings:
        logging.warning("%s", warning)
    for key, reason in list(report.skipped.items())[:LISTED]:
        logging.warning("%s: utterance %s left out: %s", report.folder, key, reason)
    if len(report.skipped) > LISTED:
        logging.warning("%s: ... and %d more", report.folder, len(report.skipped) - LISTED)
    rate = options.frames.fs or 0
    amount = f"{report.speech} feature frames" if options.feats_type != "raw" else ""
    if not amount:
        amount = f"{report.speech / rate / 3600:.2f} h" if rate else f"{report.speech} samples"
    logging.info(
        "%s: %d of %d utterances usable, %s, %d errors",
        report.folder,
        len(report.usable),
        len(report.utterances),
        amount,
        len(report.errors),
    )


if __name__ == "__main__":
    sys.exit(main())
