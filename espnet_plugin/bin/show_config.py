"""Print the ESPnet configuration of a train stage, as the pipeline's YAML gives it after merging.

python -m espnet_plugin.bin.show_config --config conf/train_progressive.yaml --stage viterbi
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence

import yaml

from espnet_plugin.corpora.strict_parser import StrictParser
from espnet_plugin.pipeline.plan.command_line import add_plan_options, plan_config, rate_option
from espnet_plugin.pipeline.plan.front_end import check_front_end
from espnet_plugin.pipeline.plan.scheduler import make_plan


def get_parser() -> argparse.ArgumentParser:
    """Return the parser of this command."""
    parser = StrictParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_plan_options(parser)
    parser.add_argument("--stage", help="default: the first one")
    parser.add_argument(
        "--fs", type=rate_option, help="rate of raw audio, Hz: refuse front-ends for another one"
    )
    return parser


def main(cmd: Sequence[str] | None = None) -> int:
    """Run the command; returns 0, or 2 after a user error."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s: %(message)s")
    args = get_parser().parse_args(cmd)
    try:
        stages = {stage.name: stage for stage in make_plan(plan_config(args))}
        if args.fs is not None:
            for stage in stages.values():
                check_front_end(stage.options, args.fs, f"{args.config}: stage {stage.name}")
        name = args.stage or next(iter(stages))
        if name not in stages:
            raise ValueError(f"{args.config}: no stage {name}; planned: {', '.join(stages)}")
    except ValueError as error:
        logging.error("%s", error)
        return 2
    print(yaml.safe_dump(dict(stages[name].options), sort_keys=False, allow_unicode=True), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
