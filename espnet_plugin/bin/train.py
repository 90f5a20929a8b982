"""Run the pipeline of train stages; the same command continues it after a kill.

    python -m espnet_plugin.bin.train --config conf/train_progressive.yaml --expdir exp \\
        --train_data dump/raw/train --valid_data dump/raw/dev --stats_dir exp/stats \\
        --token_type char --token_list data/token_list/char/tokens.txt --nj 2

Every stage of the YAML has an option of its own with arguments for its training:
--align_args, --viterbi_args "--max_epoch 3", --full_sum_args, --mbr_args. So have the jobs between
them: --alignment_args "--prior_scale 0.2", --nbest_args, over the YAML's sections of these names.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence

from espnet_plugin.corpora.strict_parser import StrictParser
from espnet_plugin.pipeline.launch.console import run_command, show
from espnet_plugin.pipeline.pipeline import Pipeline
from espnet_plugin.pipeline.plan.command_line import (
    add_pipeline_options,
    parse_with_stage_args,
    read_command_line,
    str2bool,
)


def get_parser() -> argparse.ArgumentParser:
    """Return the parser of this command."""
    parser = StrictParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_pipeline_options(parser)
    add = parser.add_argument
    for name in ("alignment", "nbest"):
        add(f"--force_{name}", type=str2bool, default=False, nargs="?", const=True)
    add("--stop_after", metavar="STEP", help="such as train:viterbi or job:alignment")
    add(
        "--dry_run",
        type=str2bool,
        default=False,
        nargs="?",
        const=True,
        help="check data and configurations, show the plan, train nothing",
    )
    return parser


def build_pipeline(
    cmd: Sequence[str], console: Callable[[str], None]
) -> tuple[Pipeline, argparse.Namespace]:
    """The pipeline that a command line describes.

    Raises:
        ValueError: the configuration is invalid.
    """
    args, stage_args = parse_with_stage_args(get_parser(), cmd)
    config, options = read_command_line(args, stage_args)
    invocation = {"arguments": list(cmd), "cwd": os.getcwd()}
    return Pipeline(config, options, invocation, console), args


def run(cmd: Sequence[str]) -> None:
    """Do what is not done yet.

    Raises:
        ValueError: user errors.
        ChildFailed: a stage or a job failed.
    """
    pipeline, args = build_pipeline(cmd, show)
    steps = [step.name for step in pipeline.steps]
    if args.stop_after is not None and args.stop_after not in steps:
        raise ValueError(f"--stop_after {args.stop_after}: the steps are {', '.join(steps)}")
    if args.dry_run:
        pipeline.check()
        show("plan: " + " -> ".join(steps))
    else:
        pipeline.run(args.stop_after)


def main(cmd: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status, see `run_command`."""
    return run_command(lambda: run(list(sys.argv[1:] if cmd is None else cmd)))


if __name__ == "__main__":
    sys.exit(main())
