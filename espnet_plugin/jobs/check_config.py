"""Parse the configuration of every stage with ESPnet's own parser and build its model.

    python -m espnet_plugin.jobs.check_config exp/tag/conf/check.json

The file maps a stage's name to its asr_train arguments, and job:<folder> to the program and
arguments of an alignment or of N-best lists. A wrong option of the last stage is thus reported
before the first one trains, all at the price of one ESPnet import.
"""

from __future__ import annotations

import argparse
import importlib
import json
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from espnet_plugin.corpora.strict_parser import StrictParser
from espnet_plugin.pipeline.launch.programs import program_module


def check_stage(name: str, arguments: Sequence[str]) -> bool:
    """Parse and build one stage; logs what is wrong."""
    from espnet_plugin.tasks.initial_parameters import check_initial_parameters
    from espnet_plugin.tasks.progressive import ProgressiveASRTask as Task

    try:
        args = Task.parse(arguments)
        model = Task.build_model(args)
        Task.build_optimizers(args, model)
        for init_param in args.init_param:
            check_initial_parameters(init_param, model)
        Task.check_stream(args)
    except SystemExit:
        logging.error("stage %s: ESPnet does not accept its options (see above)", name)
        return False
    except Exception as error:
        # Any error of a constructor means options it cannot take; its type and text say which.
        logging.error("stage %s: %s: %s", name, type(error).__name__, error)
        return False
    return True


def check_job(name: str, arguments: Sequence[str]) -> bool:
    """Parse a job's options and look for the files they name; logs what is wrong.

    Args:
        arguments: the program's name, and its arguments.
    """
    from espnet_plugin.data.lm_spec import FILE_OPTIONS, lm_specs
    from espnet_plugin.inference.search_options import check_search_options

    program, *rest = arguments
    module = importlib.import_module(program_module(program))
    try:
        options = module.get_parser().parse_args(rest)
        if program == "nbest":
            check_search_options(options)
        given = vars(options)
        files = [Path(given[key]) for key in FILE_OPTIONS if given.get(key)]
        files += [spec.path for spec in lm_specs(given)]
        for path in files:
            if not path.is_file():
                raise ValueError(
                    f"{path}: no such file; make it before step 6, or correct its name"
                )
    except SystemExit:
        logging.error("%s: the program %s does not accept its options (see above)", name, program)
        return False
    except ValueError as error:
        logging.error("%s: %s", name, error)
        return False
    return True


def main(cmd: Sequence[str] | None = None) -> int:
    """Run the command; returns 0, or 2 when a stage's configuration is wrong."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    parser = StrictParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("spec", type=Path, help="JSON: {stage: [arguments of asr_train], job:...}")
    path = parser.parse_args(cmd).spec
    spec: dict[str, list[str]] = json.loads(path.read_text(encoding="utf-8"))
    good = [
        check_job(name, arguments) if name.startswith("job:") else check_stage(name, arguments)
        for name, arguments in spec.items()
    ]
    return 0 if all(good) else 2


if __name__ == "__main__":
    sys.exit(main())
