"""Tell what a pipeline will cost before it runs: steps, epochs, memory, hours.

    espnet-progressive plan --config conf/train_progressive.yaml --train_hours 960

The data are those of --stats_dir, or, where there are none yet, as many hours as --train_hours
says. A few training steps of every stage are measured on this machine: on its GPU with --ngpu 1; a
CPU gets a small batch, and its times are scaled. --devices h200 a100 adds estimates for GPUs that
are not here. Takes the options of train as well. Ends with status 1 where a stage does not fit into
memory.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from espnet_plugin.corpora.strict_parser import StrictParser
from espnet_plugin.pipeline.launch.commands import feature_size
from espnet_plugin.pipeline.launch.console import run_command
from espnet_plugin.pipeline.plan.command_line import (
    add_pipeline_options,
    parse_with_stage_args,
    read_command_line,
    str2bool,
)
from espnet_plugin.pipeline.plan.options import RunOptions
from espnet_plugin.pipeline.plan.scheduler import make_plan
from espnet_plugin.pipeline.plan.stage_plan import TrainStage
from espnet_plugin.planning.data_size import DataSize, assumed, measured
from espnet_plugin.planning.devices import LAUNCH_SECONDS, UTILISATION, device_class
from espnet_plugin.planning.estimate import StageEstimate, estimate_plan
from espnet_plugin.planning.plan_table import (
    GIB,
    data_line,
    device_table,
    probe_lines,
    stage_table,
)
from espnet_plugin.planning.probe_job import run_probe
from espnet_plugin.planning.probe_result import Probe


def get_parser() -> argparse.ArgumentParser:
    """Return the parser of this command."""
    parser = StrictParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_pipeline_options(parser, data_required=False)
    add = parser.add_argument
    add("--train_hours", type=float, help="hours of training data, where nothing is prepared yet")
    add("--valid_hours", type=float, help="the same; default: a hundredth of the training data")
    add("--utterance_seconds", type=float, default=12.0, help="mean length to assume")
    add("--labels_per_second", type=float, default=10.0, help="to assume")
    add("--vocab_size", type=int, default=81, help="to assume where there is no token list")
    add("--probe_steps", type=int, default=2, help="steps to measure; 0: none")
    add("--probe", type=Path, help="an earlier probe to use (<exp>/plan/probe.json)")
    add("--devices", nargs="+", default=[], help="h200 a100 rtx3090 gtx1080ti: estimates for them")
    add("--utilisation", type=float, help="share of their peak; default: by precision, 0.07 to 0.2")
    add("--markdown", type=str2bool, default=False, nargs="?", const=True, help="Markdown tables")
    return parser


def data_sizes(args: argparse.Namespace, options: RunOptions) -> tuple[DataSize, DataSize]:
    """Training and validation data: measured, or assumed.

    Raises:
        ValueError: neither statistics nor --train_hours.
    """
    if args.train_hours is None and args.stats_dir is not None:
        return measured(options, "train"), measured(options, "valid")
    if args.train_hours is None:
        raise ValueError(
            "how much data? give --stats_dir (of collect-stats), or --train_hours where nothing is "
            "prepared yet"
        )
    dimension = 1
    if options.feats_type == "extracted":
        dimension = feature_size(options.train_data)
    given = (args.utterance_seconds, args.labels_per_second, args.vocab_size, options, dimension)
    valid = args.train_hours / 100 if args.valid_hours is None else args.valid_hours
    return assumed(args.train_hours, *given), assumed(valid, *given)


def get_probe(
    args: argparse.Namespace, stages: Sequence[TrainStage], train: DataSize, options: RunOptions
) -> Probe | None:
    """A new probe, an earlier one, or none.

    Raises:
        ValueError, ChildFailed: see `run_probe`.
    """
    folder = options.exp / "plan"
    if args.probe is not None:
        return Probe.load(args.probe)
    if args.probe_steps > 0:
        return run_probe(stages, train, options, args.probe_steps, folder, print)
    return None


def too_large(estimates: Sequence[StageEstimate], probe: Probe | None) -> list[str]:
    """Stages that do not fit into the probed device's memory, with the remedy."""
    if probe is None:
        return []
    found = []
    for estimate in estimates:
        need = estimate.memory_bytes or 0.0
        if estimate.error is None and need <= probe.memory_bytes:
            continue
        what = estimate.error or f"needs {need / GIB:.1f} GiB"
        found.append(
            f"stage {estimate.name}: {what}, {probe.device} has {probe.memory_bytes / GIB:.1f}; "
            f"divide its batch_bins and multiply its accum_grad by the same number, or add GPUs"
        )
    return found


def report(args: argparse.Namespace, stage_args: dict[str, list[str]]) -> list[str]:
    """Print the plan; returns what stands against it."""
    devices = [device_class(name) for name in args.devices]
    if args.utilisation is not None and not 0 < args.utilisation <= 1:
        raise ValueError(f"--utilisation is a share between 0 and 1, got {args.utilisation}")
    config, options = read_command_line(args, stage_args)
    stages = make_plan(config)
    train, valid = data_sizes(args, options)
    probe = get_probe(args, stages, train, options)
    estimates = estimate_plan(stages, train, valid, options, probe)
    print(data_line("training data", train))
    print(data_line("validation data", valid))
    print("\n" + stage_table(estimates, options.ngpu * options.num_nodes, args.markdown) + "\n")
    if probe is None:
        print("times and memory: not measured (--probe_steps 2 measures)")
    else:
        print("\n".join(probe_lines(probe, estimates, train)))
    if devices and probe is not None:
        kinds = sorted({estimate.precision for estimate in estimates})
        shares = [f"{args.utilisation or UTILISATION[kind]:g} of {kind}" for kind in kinds]
        print(
            "\nHours on other devices, scaled from the operations counted here to the peak rate "
            f"that their vendor gives, times {', '.join(shares)}, and at least "
            f"{LAUNCH_SECONDS * 1e6:g} us for each operation that torch dispatches (assumptions; "
            "nothing was measured there):\n"
        )
        print(device_table(estimates, devices, args.utilisation, args.markdown))
    # who asks about other devices does not mean to train here
    return [] if devices else too_large(estimates, probe)


def main(cmd: Sequence[str] | None = None) -> int:
    """Run the command; returns 0, 1 (does not fit, or the probe failed) or 2 (user error)."""
    args, stage_args = parse_with_stage_args(get_parser(), cmd)

    def work() -> int:
        problems = report(args, stage_args)
        for problem in problems:
            logging.error("%s", problem)
        return 1 if problems else 0

    return run_command(work)


if __name__ == "__main__":
    sys.exit(main())
