"""Make the token list of a corpus, in ESPnet's layout.

    python -m espnet_plugin.jobs.make_tokens --token_type char --text data/train/text
    python -m espnet_plugin.jobs.make_tokens --token_type bpe --nbpe 500 --text data/train/text
    python -m espnet_plugin.jobs.make_tokens --token_type phn --lexicon lexicon.txt \\
        --text data/train/text --other_text data/dev/text

The list goes to <out_dir>/char/tokens.txt, <out_dir>/bpe_unigram500/{tokens.txt,bpe.model} or
<out_dir>/phn/{tokens.txt,lexicon.txt}. For phn, the words of --text and --other_text must all have
a pronunciation, from the lexicon or from --g2p; the lexicon written there holds both, and
word_counts says which of several words with one pronunciation is the likely one. Symbols that
--nlsyms_txt lists are one label each; without a pronunciation they become a phoneme of their own.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from espnet_plugin.corpora.atomic import write_atomically
from espnet_plugin.corpora.kaldi_dir import write_table
from espnet_plugin.corpora.strict_parser import StrictParser
from espnet_plugin.corpora.text_lines import fields, single_spaced
from espnet_plugin.data.g2p import PROVIDERS, load_g2p
from espnet_plugin.data.kaldi_files import read_table, some
from espnet_plugin.data.lexicon import Lexicon, read_lexicon, write_lexicon
from espnet_plugin.data.symbols import read_symbols, symbols_option
from espnet_plugin.data.token_list import (
    Subwords,
    character_tokens,
    train_bpe,
    write_token_list,
)
from espnet_plugin.models.text_cleaner import load_cleaner
from espnet_plugin.pipeline.launch.console import report_user_errors
from espnet_plugin.scoring.phoneme_words import WORD_COUNTS

NLSYMS = "nlsyms.txt"  # the symbols as ESPnet's tokenizer is to read them


def get_parser() -> argparse.ArgumentParser:
    """Return the parser of this command."""
    parser = StrictParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--token_type", choices=("char", "bpe", "phn"), required=True)
    parser.add_argument("--text", type=Path, nargs="+", required=True, help="Kaldi texts to train")
    parser.add_argument("--out_dir", type=Path, default=Path("data/token_list"))
    parser.add_argument("--nbpe", type=int, default=500, help="number of sentencepiece pieces")
    parser.add_argument("--bpemode", choices=("unigram", "bpe"), default="unigram")
    parser.add_argument("--bpe_char_cover", type=float, default=1.0, help="share of characters")
    parser.add_argument("--bpe_input_sentence_size", type=int, default=100_000_000)
    parser.add_argument("--bpe_nlsyms", default="", help="symbols for bpe: a,b, or a file")
    parser.add_argument(
        "--nlsyms_txt", type=Path, help="symbols such as <noise>, one a line: a label each"
    )
    parser.add_argument("--cleaner", help="ESPnet's, for texts that format_data did not clean")
    parser.add_argument("--lexicon", type=Path, help="lines `word phoneme phoneme ...`")
    parser.add_argument(
        "--lexicon_probabilities", action="store_true", help="its second column is a probability"
    )
    parser.add_argument("--g2p", choices=PROVIDERS, help="for words that the lexicon lacks")
    parser.add_argument(
        "--other_text", type=Path, nargs="+", default=[], help="more texts that phn must cover"
    )
    return parser


def main(cmd: list[str] | None = None) -> int:
    """Run the command; return 0, or 2 after a user error."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s: %(message)s")
    args = get_parser().parse_args(cmd)
    return report_user_errors(lambda: print(make_tokens(args)))


def make_tokens(args: argparse.Namespace) -> Path:
    """Write what was asked for; return the path of the token list."""
    texts = [text for path in args.text for text in read_table(path).values()]
    clean = load_cleaner(args.cleaner)
    texts = [single_spaced(clean(text)) for text in texts]
    symbols = () if args.nlsyms_txt is None else read_symbols(args.nlsyms_txt)
    if args.token_type == "char":
        folder, tokens = args.out_dir / "char", character_tokens(texts, symbols)
    elif args.token_type == "bpe":
        folder = args.out_dir / f"bpe_{args.bpemode}{args.nbpe}"
        _warn_of_spaces(args, texts)
        pieces = tuple(dict.fromkeys([*symbols, *symbols_option(args.bpe_nlsyms)]))
        given = (pieces, args.bpe_char_cover, args.bpe_input_sentence_size)
        tokens = train_bpe(texts, Subwords(args.nbpe, args.bpemode, *given), folder)
    else:
        folder = args.out_dir / "phn"
        others = [text for path in args.other_text for text in read_table(path).values()]
        lexicon = _complete_lexicon(
            args, symbols, {w for text in texts + others for w in fields(text)}
        )
        tokens = lexicon.label_set
        write_lexicon(folder / "lexicon.txt", lexicon)
        counts = Counter(word for text in texts for word in fields(text))
        write_table(folder / WORD_COUNTS, {word: str(count) for word, count in counts.items()})
    if symbols:  # without what ESPnet's reader stumbles over, such as a blank line
        write_atomically(folder / NLSYMS, "".join(f"{symbol}\n" for symbol in symbols))
    write_token_list(folder / "tokens.txt", tokens)
    written: Path = folder / "tokens.txt"
    return written


def _warn_of_spaces(args: argparse.Namespace, texts: Sequence[str]) -> None:
    """Sentencepiece's normalisation makes plain spaces of no-break and ideographic ones."""
    odd = [text for text in texts if text.split() != fields(text)]
    if odd:
        logging.warning(
            "%s: no-break or other foreign spaces in %d transcripts, first %r: sentencepiece takes "
            "them for word boundaries, the WER does not; replace them by plain spaces",
            " ".join(map(str, args.text)), len(odd), odd[0][:60],
        )  # fmt: skip


def _complete_lexicon(args: argparse.Namespace, symbols: Sequence[str], words: set[str]) -> Lexicon:
    if args.lexicon is None:
        raise ValueError("--token_type phn needs --lexicon")
    lexicon = read_lexicon(args.lexicon, probabilities=args.lexicon_probabilities)
    own = {symbol: ((symbol,),) for symbol in lexicon.missing(symbols)}
    lexicon = Lexicon({**lexicon.pronunciations, **own}, lexicon.source)
    missing = lexicon.missing(words)
    if missing and args.g2p:
        shown = some(missing)
        logging.warning("%s: %d words from %s: %s", args.lexicon, len(missing), args.g2p, shown)
        lexicon = lexicon.with_words(words, load_g2p(args.g2p, lexicon.phonemes))
    lexicon.require(words)
    return lexicon


if __name__ == "__main__":
    sys.exit(main())
