"""Trains a neural language model over a transducer's labels: ESPnet's LM task, resumable.

    espnet-progressive train-lm --config conf/train_lm.yaml --lm_exp exp/lm --token_type char \\
        --token_list data/token_list/char/tokens.txt --train_text data/train/text \\
        --valid_text data/dev/text

Decode with `--lm espnet:exp/lm/valid.loss.ave.pth:SCALE`. Killed, the same command goes on from the
last finished epoch.
"""

from __future__ import annotations

import argparse
import logging
import shlex
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from espnet_plugin.bin.train import show, terminate
from espnet_plugin.stages.lm_training import LmTraining, train_lm
from espnet_plugin.stages.process import ChildFailed


def get_parser() -> argparse.ArgumentParser:
    """Return the parser of this command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config", type=Path, required=True, help="YAML of ESPnet's lm_train")
    parser.add_argument("--lm_exp", type=Path, required=True, help="folder of the experiment")
    parser.add_argument("--train_text", type=Path, required=True, help="Kaldi text")
    parser.add_argument("--valid_text", type=Path, required=True, help="Kaldi text")
    parser.add_argument("--token_type", choices=("char", "bpe", "phn"), required=True)
    parser.add_argument("--token_list", type=Path, required=True, help="the transducer's")
    parser.add_argument("--bpemodel", type=Path)
    parser.add_argument("--lexicon", type=Path, help="for phn: the one that make_tokens wrote")
    parser.add_argument("--ngpu", type=int, default=0)
    parser.add_argument("--python", default=shlex.quote(sys.executable))
    return parser


def main(cmd: Sequence[str] | None = None) -> int:
    """Run the command; returns 0, 1 (ESPnet failed), 2 (user error) or 130 (Ctrl-C)."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s: %(message)s")
    args = get_parser().parse_args(cmd)
    signal.signal(signal.SIGTERM, terminate)
    training = LmTraining(
        config=args.config,
        folder=args.lm_exp,
        texts=(args.train_text, args.valid_text),
        token_type=args.token_type,
        token_list=args.token_list,
        bpemodel=args.bpemodel,
        lexicon=args.lexicon,
        ngpu=args.ngpu,
        python=args.python,
    )
    try:
        train_lm(training, show)
    except ValueError as error:
        logging.error("%s", error)
        return 2
    except ChildFailed as error:
        logging.error("%s", error)
        return 1
    except KeyboardInterrupt:
        logging.error("interrupted; the same command continues from here")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
