"""Estimates an n-gram language model (Kneser-Ney, by the package kaldingram) and writes ARPA.

    espnet-progressive train-ngram --text data/train/text --out lm/word_3gram.arpa
    espnet-progressive train-ngram --text data/train/text --units phn --lexicon lexicon.txt \\
        --out lm/phn_3gram.arpa --valid_text data/dev/text

A model that is there already, of the same text and options, is left alone.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import math
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from espnet_plugin.corpora.atomic import write_atomically
from espnet_plugin.corpora.faults import naming
from espnet_plugin.corpora.strict_parser import StrictParser
from espnet_plugin.data.lm_text import make_units, read_sentences, write_units
from espnet_plugin.data.symbols import read_symbols
from espnet_plugin.data.text_units import TOKEN_TYPES
from espnet_plugin.models.text_cleaner import load_cleaner
from espnet_plugin.pipeline.launch.console import report_user_errors
from espnet_plugin.pipeline.state.fingerprint import fingerprint

MAX_ORDER = 5


def get_parser() -> argparse.ArgumentParser:
    """Return the parser of this command."""
    parser = StrictParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--text", type=Path, required=True, help="Kaldi text: id, then words")
    parser.add_argument("--out", type=Path, required=True, help="ARPA file to write")
    parser.add_argument("--order", type=int, default=3, help=f"2 to {MAX_ORDER}")
    parser.add_argument(
        "--units", choices=TOKEN_TYPES, default="word", help="word, or a model's labels"
    )
    parser.add_argument("--bpemodel", type=Path, help="for units bpe")
    parser.add_argument("--lexicon", type=Path, help="for units phn")
    parser.add_argument("--nlsyms_txt", type=Path, help="for units char: symbols, a label each")
    parser.add_argument("--cleaner", help="ESPnet's, for the text")
    parser.add_argument("--valid_text", type=Path, help="the perplexity on it is logged")
    return parser


def estimate(text: Path, out: Path, order: int) -> None:
    """Run kaldingram on a text without ids.

    Raises:
        ValueError: the package is missing, or the text is too small for this order.
    """
    try:
        from kaldingram import train
    except ImportError as error:
        raise ValueError(
            f"training n-grams needs the package kaldingram ({error}): `pip install kaldingram`, "
            "or give an ARPA file made elsewhere"
        ) from error
    partial = out.with_name(out.name + ".partial")
    parser = StrictParser()
    train.add_arguments(parser)
    options = ["--ngram-order", str(order), "--text", str(text), "--lm", str(partial)]
    try:
        with naming(out), contextlib.redirect_stderr(sys.stderr):
            train.run(parser.parse_args(options))
    except (ZeroDivisionError, ValueError, AssertionError) as error:
        raise ValueError(
            f"{text}: too little text for {order}-grams ({error}); use a smaller --order"
        ) from error
    partial.replace(out)


def perplexity(arpa: Path, text: Path, units: Callable[[str], list[str] | None]) -> str:
    """Perplexity of sentences without unknown words, their end included; the share of unknown."""
    from espnet_plugin.search import read_arpa

    model = read_arpa(arpa)
    total, known, unknown = 0.0, 0, 0
    for _, sentence in read_sentences(text):
        found = units(sentence) or []
        listed = [unit for unit in found if model.knows(unit)]
        unknown += len(found) - len(listed)
        if len(listed) == len(found):
            known += len(found) + 1
            total += model.sentence(found)
    value = math.exp(-total / known) if known else math.inf
    share = 100 * unknown / max(1, known + unknown)
    return f"perplexity {value:.1f} on {text}, {share:.2f} % unknown"


def run(args: argparse.Namespace) -> None:
    """Make the model unless it is there.

    Raises:
        ValueError: bad options or text.
    """
    if not 2 <= args.order <= MAX_ORDER:
        raise ValueError(f"--order is 2 to {MAX_ORDER}, got {args.order}")
    symbols = () if args.nlsyms_txt is None else read_symbols(args.nlsyms_txt)
    units = make_units(args.units, args.bpemodel, args.lexicon, symbols)
    if not args.text.is_file():
        raise ValueError(f"{args.text}: no such text to train a language model on")
    files = [
        path
        for path in (args.text, args.bpemodel, args.lexicon, args.nlsyms_txt)
        if path is not None
    ]
    given = {"order": args.order, "units": args.units}
    if args.cleaner:
        given["cleaner"] = args.cleaner
    mark = fingerprint(given, files, [])
    note = args.out.with_name(args.out.name + ".json")
    if args.out.is_file() and note.is_file() and json.loads(note.read_text())["made_from"] == mark:
        logging.info("%s: up to date", args.out)
        return
    note.unlink(missing_ok=True)  # killed before the new one, the old one must not speak for it
    begun = time.monotonic()
    plain = args.out.with_name(args.out.name + ".txt")
    sentences = write_units(args.text, plain, units, ids=False, clean=load_cleaner(args.cleaner))
    estimate(plain, args.out, args.order)
    plain.unlink()
    write_atomically(note, json.dumps({"made_from": mark, "sentences": sentences}) + "\n")
    seconds = time.monotonic() - begun
    logging.info("%s: %d sentences, %.1f s", args.out, sentences, seconds)
    if args.valid_text is not None:
        logging.info("%s: %s", args.out, perplexity(args.out, args.valid_text, units))


def main(cmd: Sequence[str] | None = None) -> int:
    """Run the command; returns 0, or 2 after a user error."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s: %(message)s")
    return report_user_errors(lambda: run(get_parser().parse_args(cmd)))


if __name__ == "__main__":
    sys.exit(main())
