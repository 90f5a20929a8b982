"""Options of the search, shared by `decode`, `nbest`, `tune-scales` and `Speech2Text`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from espnet2.utils.types import str2bool

from espnet_plugin.data.lm_spec import lm_specs, parse_lm
from espnet_plugin.packages.contents import JOB_OPTIONS
from espnet_plugin.search.beam.beam_options import ENGINES
from espnet_plugin.search.lexicon.word_lm import LOOK_AHEADS

SEARCHES = ("beam", "greedy", "lexicon", "encoder")
#: Looking ahead with n-grams asks the model about all words in every new state.
MANY_WORDS = 20_000
ILM_METHODS = ("zero_encoder", "density_ratio", "lodr")


class GatherLms(argparse.Action):
    """``--lm A B --lm C``: the command line's models, all of them, instead of the YAML's."""

    def __call__(
        self, parser: Any, namespace: Any, values: Any, option_string: str | None = None
    ) -> None:
        """See :class:`argparse.Action`."""
        seen = getattr(namespace, "_lms_given", [])
        namespace._lms_given = [*seen, *values]
        setattr(namespace, self.dest, namespace._lms_given)


def add_search_arguments(
    parser: argparse.ArgumentParser, searches: Sequence[str] = SEARCHES
) -> None:
    """The search, its pruning, internal and external language models, the lexicon."""
    add = parser.add_argument_group("search").add_argument
    add(
        "--search",
        choices=searches,
        default="beam",
        help="encoder: greedy on the encoder's output layer; always used for an aligner, whose "
        "joint network is not trained",
    )
    add("--beam_size", type=int, default=8)
    add("--nbest", type=int, default=1)
    add("--max_symbols", type=int, default=5, help="labels per frame (rnnt)")
    add("--score_beam", type=float, default=None, help="nats below the best")
    add(
        "--recombination",
        choices=["history", "context"],
        default="history",
        help="context: hypotheses that no model can tell apart any more are added up as well",
    )
    add("--semiring", choices=["full_sum", "max"], default="full_sum", help="max: best single path")
    add("--blank_penalty", type=float, default=0.0)
    add(
        "--search_engine",
        choices=ENGINES,
        default="auto",
        help="of --search beam. compiled: by numba, on a CPU; auto: the faster one",
    )
    _add_lm_arguments(parser)
    _add_lexicon_arguments(parser)


def _add_lm_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("language models").add_argument
    add(
        "--lm",
        nargs="*",
        action=GatherLms,
        default=[],
        metavar="KIND:FILE:SCALE",
        help="any number of them. ngram: ARPA file over the model's labels; word: ARPA file over "
        "words; espnet: parameters of ESPnet's LM task over the model's labels",
    )
    add("--lm_train_config", type=Path, help="ESPnet's name: configuration of --lm_file")
    add("--lm_file", type=Path, help="ESPnet's name for a model of its LM task")
    add("--lm_weight", type=float, help="ESPnet's name: scale of --lm_file (1.0)")
    add("--ngram_file", type=Path, help="ESPnet's name for an ARPA file over the model's labels")
    add("--ngram_weight", type=float, help="ESPnet's name: scale of --ngram_file (0.9)")
    add(
        "--ilm_scale",
        type=float,
        default=None,
        help="internal language model subtraction; 0: computed, but not subtracted",
    )
    add(
        "--ilm_method",
        choices=ILM_METHODS,
        default="zero_encoder",
        help="zero_encoder: the joint network without encoder; density_ratio, lodr: --ilm_lm, a "
        "model of the training transcripts (lodr: a low-order n-gram), is subtracted instead",
    )
    add("--ilm_lm", metavar="KIND:FILE", help="for density_ratio and lodr")


def _add_lexicon_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("search lexicon").add_argument
    add("--lexicon", type=Path, help="words with pronunciations")
    add(
        "--lexicon_probabilities",
        type=str2bool,
        default=False,
        help="the lexicon's second column is the probability of a pronunciation",
    )
    add("--pronunciation_scale", type=float, default=1.0)
    add("--word_end_beam", type=float, default=None, help="nats below the frame's best word end")
    add(
        "--look_ahead",
        choices=LOOK_AHEADS,
        default=None,
        help="of the word models into words; default: ngram, for more than "
        f"{MANY_WORDS} words or with KenLM unigram",
    )


def check_search_options(args: argparse.Namespace) -> None:
    """Refuse what does not go together, before a model is loaded.

    Raises:
        ValueError: an unknown search, a model without scale, or an internal language model that
            is not described fully.
    """
    if args.search not in SEARCHES:
        raise ValueError(f"search must be one of {SEARCHES}, got {args.search!r}")
    if args.beam_size < 1 or args.nbest < 1:
        raise ValueError(f"beam_size {args.beam_size} and nbest {args.nbest} must be at least 1")
    specs = lm_specs(vars(args))
    if any(spec.kind == "espnet-text" for spec in specs):
        raise ValueError("language models of kind espnet-text can only rescore N-best lists")
    if args.search in ("greedy", "encoder") and (specs or args.ilm_scale is not None):
        raise ValueError(f"search {args.search} uses no language model; use beam or lexicon")
    if args.search != "beam" and args.search_engine == "compiled":
        raise ValueError(f"--search_engine compiled belongs to --search beam, not {args.search}")
    if args.search == "lexicon" and args.lexicon is None:
        raise ValueError("--search lexicon needs --lexicon FILE, the words to recognise")
    if args.ilm_method not in ILM_METHODS:
        raise ValueError(f"ilm_method must be one of {ILM_METHODS}, got {args.ilm_method!r}")
    if args.ilm_method == "zero_encoder":
        if args.ilm_lm:
            raise ValueError("--ilm_lm belongs to --ilm_method density_ratio or lodr")
    elif not args.ilm_lm or args.ilm_scale is None:
        raise ValueError(f"--ilm_method {args.ilm_method} needs --ilm_lm and --ilm_scale")
    else:
        source = parse_lm(args.ilm_lm)
        if source.scale is not None:
            raise ValueError(f"--ilm_lm {args.ilm_lm}: its scale is --ilm_scale, not part of it")
        if args.ilm_method == "lodr" and source.kind not in ("ngram", "word"):
            raise ValueError(f"lodr subtracts a low-order n-gram, not {args.ilm_lm}")


def search_settings(args: argparse.Namespace) -> dict[str, Any]:
    """All search options in effect, as `search.yaml` keeps them.

    With them, a result can be made again or sorted anew.
    """
    kept = {k: v for k, v in vars(args).items() if k not in JOB_OPTIONS and k[0] != "_"}
    return {k: str(v) if isinstance(v, Path) else v for k, v in kept.items()}
