"""Collect ESPnet's statistics of training and validation data (shapes, mean and variance).

python -m espnet_plugin.jobs.collect_stats <the options of train>
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from espnet_plugin.bin.train import get_parser as train_parser
from espnet_plugin.pipeline.launch.console import run_command, show
from espnet_plugin.pipeline.plan.command_line import (
    parse_with_stage_args,
    read_command_line,
)
from espnet_plugin.pipeline.plan.pretraining import all_options, options_for
from espnet_plugin.pipeline.plan.scheduler import make_plan
from espnet_plugin.pipeline.steps.statistics import collect_stats


def get_parser() -> argparse.ArgumentParser:
    """Return the parser of this command."""
    parser = train_parser()
    parser.description = __doc__
    return parser


def run(cmd: Sequence[str]) -> None:
    """Collect what is not collected yet.

    Raises:
        ValueError: user errors.
        ChildFailed: a job failed.
    """
    args, stage_args = parse_with_stage_args(get_parser(), cmd)
    config, options = read_command_line(args, stage_args)
    stages = make_plan(config)
    for own in all_options(stages, options):
        stage = next(each for each in stages if options_for(each, options) == own)
        collect_stats(stage, own, show, lambda: None)


def main(cmd: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status, see `run_command`."""
    return run_command(lambda: run(list(sys.argv[1:] if cmd is None else cmd)))


if __name__ == "__main__":
    sys.exit(main())
