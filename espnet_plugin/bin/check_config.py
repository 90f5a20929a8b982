"""Parse the configuration of every stage with ESPnet's own parser and build its model.

    python -m espnet_plugin.bin.check_config exp/tag/conf/check.json

The file maps a stage's name to its asr_train arguments. A wrong option of the last stage is
thus reported before the first one trains, all stages at the price of one ESPnet import.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Sequence
from pathlib import Path


def check_stage(name: str, arguments: Sequence[str]) -> bool:
    """Parse and build one stage; logs what is wrong."""
    from espnet_plugin.tasks.initial_parameters import check_initial_parameters
    from espnet_plugin.tasks.progressive import ProgressiveASRTask as Task

    try:
        args = Task.get_parser().parse_args(list(arguments))
        model = Task.build_model(args)
        Task.build_optimizers(args, model)
        for init_param in args.init_param:
            check_initial_parameters(init_param, model)
    except SystemExit:
        logging.error("stage %s: ESPnet does not accept its options (see above)", name)
        return False
    except Exception as error:
        # Any error of a constructor means options it cannot take; its type and text say which.
        logging.error("stage %s: %s: %s", name, type(error).__name__, error)
        return False
    return True


def main(cmd: Sequence[str] | None = None) -> int:
    """Run the command; returns 0, or 2 when a stage's configuration is wrong."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("spec", type=Path, help="JSON: {stage: [arguments of asr_train]}")
    path = parser.parse_args(cmd).spec
    spec: dict[str, list[str]] = json.loads(path.read_text(encoding="utf-8"))
    good = [check_stage(name, arguments) for name, arguments in spec.items()]
    return 0 if all(good) else 2


if __name__ == "__main__":
    sys.exit(main())
