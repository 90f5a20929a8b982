"""Check this machine before a long run: software, memory, disk, GPUs, files.

    espnet-progressive doctor --config conf/train_progressive.yaml --train_hours 960 --ngpu 1

Everything is looked at, whatever is wrong; every failure comes with its remedy. Ends with status 1
if anything that the run needs is missing. Imports neither torch nor ESPnet: it takes a second.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from espnet_plugin.corpora.strict_parser import StrictParser
from espnet_plugin.pipeline.plan.command_line import (
    add_cmd_options,
    add_plan_options,
    plan_config,
    rate_option,
    str2bool,
)
from espnet_plugin.pipeline.plan.scheduler import make_plan
from espnet_plugin.planning.checks import FAILED, NOTE, OK, Check, Wishes, check_table, remedy_line
from espnet_plugin.planning.doctor_machine import machine_checks
from espnet_plugin.planning.doctor_software import software_checks
from espnet_plugin.planning.model_size import model_parameters
from espnet_plugin.planning.probe_result import Probe


def get_parser() -> argparse.ArgumentParser:
    """Return the parser of this command."""
    parser = StrictParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add_plan_options(parser, config_required=False)
    add("--expdir", type=Path, default=Path("exp"))
    add("--tag", help="name of the experiment; default: the YAML's name")
    add("--dumpdir", type=Path, default=Path("dump"))
    add("--train_hours", type=float, help="hours of training data, for the disk space")
    add("--dump_copies", type=float, default=1.0, help="of them in the dump; 0: audio stays put")
    add("--fs", type=rate_option, default=16000, help="sampling rate, Hz")
    add("--ngpu", type=int, default=0)
    add("--num_nodes", type=int, default=1)
    add("--nj", type=int, default=1)
    add_cmd_options(parser)
    add("--files", type=Path, nargs="*", default=[], help="files that later steps will read")
    add("--tools", nargs="*", default=[], help="programs that this run calls")
    add("--packages", nargs="*", default=[], help="Python packages that this run needs")
    add("--quiet", type=str2bool, default=False, nargs="?", const=True, help="only what is wrong")
    add("--markdown", type=str2bool, default=False, nargs="?", const=True)
    return parser


def examine(args: argparse.Namespace) -> list[Check]:
    """All checks, the configuration's first."""
    config, wishes = read_wishes(args)
    return [*config, *software_checks(wishes), *machine_checks(wishes)]


def read_wishes(args: argparse.Namespace) -> tuple[list[Check], Wishes]:
    """What the command line and the pipeline YAML ask for, and whether the YAML can be read."""
    shared = Wishes.__dataclass_fields__.keys() & vars(args).keys()
    given = {name: getattr(args, name) for name in shared}
    if args.config is None:
        return [], Wishes(**given)
    try:
        stages = make_plan(plan_config(args))
    except ValueError as error:
        check = Check("configuration", FAILED, str(error), "correct the file, or give another one")
        return [check], Wishes(**given)
    options = [stage.options for stage in stages]
    kept = [o.get("keep_nbest_models") or 10 for o in options]  # ESPnet's default; a list or one
    wishes = Wishes(
        **given,
        num_workers=max(int(o.get("num_workers", 1)) for o in options),
        parameters=max((model_parameters(o) or 0 for o in options), default=0) or None,
        stages=len(stages),
        models_kept=max(max(each) if isinstance(each, list) else int(each) for each in kept),
    )
    size = (
        "" if wishes.parameters is None else f", about {wishes.parameters / 1e6:.0f} M parameters"
    )
    found = f"{args.config}: {' -> '.join(stage.name for stage in stages)}{size}"
    checks = [Check("configuration", OK, found)]
    return checks, _with_probe(wishes, args)


def _with_probe(wishes: Wishes, args: argparse.Namespace) -> Wishes:
    """Memory as `plan` measured it, where it did."""
    path = args.expdir / (args.tag or args.config.stem) / "plan" / "probe.json"
    if not path.exists():
        return wishes
    stages = Probe.load(path).stages.values()
    need = max((s.peak_bytes or s.state_bytes + s.activation_bytes for s in stages), default=0)
    return Wishes(**{**wishes.__dict__, "training_bytes": float(need) or None})


def main(cmd: Sequence[str] | None = None) -> int:
    """Run the command; returns 0, 1 (something is missing) or 2 (user error)."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s: %(message)s")
    args = get_parser().parse_args(cmd)
    try:
        checks = examine(args)
    except ValueError as error:
        logging.error("%s", error)
        return 2
    failures = [check for check in checks if check.status == FAILED]
    if args.quiet:
        for check in checks:
            if check.status not in (OK, NOTE):
                print(remedy_line(check))
    else:
        print(check_table(checks, args.markdown))
    print(f"{len(checks)} checks, {len(failures)} failed")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
