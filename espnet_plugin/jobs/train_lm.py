"""Trains a neural language model over a transducer's labels: ESPnet's LM task, resumable.

    espnet-progressive train-lm --config conf/train_lm.yaml --lm_exp exp/lm --token_type char \\
        --token_list data/token_list/char/tokens.txt --train_text data/train/text \\
        --valid_text data/dev/text

Decode with `--lm espnet:exp/lm/valid.loss.ave.pth:SCALE`. Killed, the same command goes on from the
last finished epoch.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from espnet_plugin.corpora.strict_parser import StrictParser
from espnet_plugin.pipeline.launch.console import run_command, show
from espnet_plugin.pipeline.plan.command_line import add_cmd_options
from espnet_plugin.pipeline.steps.lm_training import LmTraining, train_lm


def get_parser() -> argparse.ArgumentParser:
    """Return the parser of this command."""
    parser = StrictParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, required=True, help="YAML of ESPnet's lm_train")
    parser.add_argument("--lm_exp", type=Path, required=True, help="folder of the experiment")
    parser.add_argument("--train_text", type=Path, required=True, help="Kaldi text")
    parser.add_argument("--valid_text", type=Path, required=True, help="Kaldi text")
    parser.add_argument("--token_type", choices=("char", "bpe", "phn"), required=True)
    parser.add_argument("--token_list", type=Path, required=True, help="the transducer's")
    parser.add_argument("--bpemodel", type=Path)
    parser.add_argument("--lexicon", type=Path, help="for phn: the one that make_tokens wrote")
    parser.add_argument(
        "--lm_args", type=shlex.split, default=[], metavar='"..."', help="more of ESPnet's lm_train"
    )
    parser.add_argument("--lm_fold_length", type=int, default=150, help="for batch_type folded")
    parser.add_argument("--nlsyms_txt", type=Path, help="for char: symbols, a label each")
    parser.add_argument("--cleaner", help="ESPnet's, for the texts")
    parser.add_argument("--ngpu", type=int, default=0)
    parser.add_argument("--num_nodes", type=int, default=1)
    add_cmd_options(parser)
    parser.add_argument("--python", default=shlex.quote(sys.executable))
    return parser


def main(cmd: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status, see `run_command`."""
    args = get_parser().parse_args(cmd)
    training = LmTraining(
        config=args.config,
        folder=args.lm_exp,
        texts=(args.train_text, args.valid_text),
        token_type=args.token_type,
        token_list=args.token_list,
        bpemodel=args.bpemodel,
        lexicon=args.lexicon,
        symbols=args.nlsyms_txt,
        cleaner=args.cleaner,
        arguments=tuple(args.lm_args),
        fold_length=args.lm_fold_length,
        ngpu=args.ngpu,
        num_nodes=args.num_nodes,
        train_cmd=args.train_cmd,
        cuda_cmd=args.cuda_cmd,
        python=args.python,
    )

    def work() -> None:
        train_lm(training, show)

    return run_command(work)


if __name__ == "__main__":
    sys.exit(main())
