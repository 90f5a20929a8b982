"""Collect ESPnet's statistics of training and validation data (shapes, mean and variance).

python -m espnet_plugin.bin.collect_stats <the options of train>
"""

from __future__ import annotations

import argparse
import logging
import signal
import sys
from collections.abc import Sequence

from espnet_plugin.bin.pipeline_options import parse_with_stage_args, run_options
from espnet_plugin.bin.train import get_parser as train_parser
from espnet_plugin.bin.train import show, terminate
from espnet_plugin.stages.config import load_pipeline_config
from espnet_plugin.stages.process import ChildFailed
from espnet_plugin.stages.scheduler import make_plan
from espnet_plugin.stages.statistics import collect_stats


def get_parser() -> argparse.ArgumentParser:
    """Return the parser of this command."""
    parser = train_parser()
    parser.description = __doc__
    return parser


def main(cmd: Sequence[str] | None = None) -> int:
    """Run the command; returns 0, 1 (a process failed), 2 (user error) or 130 (Ctrl-C)."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s: %(message)s")
    signal.signal(signal.SIGTERM, terminate)
    try:
        args, stage_args = parse_with_stage_args(
            get_parser(), list(sys.argv[1:] if cmd is None else cmd)
        )
        first = make_plan(load_pipeline_config(args.config))[0]
        collect_stats(first, run_options(args, stage_args), show, lambda: None)
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
