"""Show what of a pipeline is done, running, stale and still to do.

espnet-progressive status --exp exp/tag
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from espnet_plugin.bin.train import build_pipeline
from espnet_plugin.corpora.strict_parser import StrictParser
from espnet_plugin.pipeline.launch.console import report_user_errors
from espnet_plugin.pipeline.state.state import PipelineState
from espnet_plugin.pipeline.status import Row, format_rows, step_rows


def with_present_names(arguments: Sequence[str]) -> list[str]:
    """A recorded command line of 0.1.0, in which the commands had other names."""
    names = {"--cmd": "--decode_cmd", "--train_cmd": "--cuda_cmd"} if "--cmd" in arguments else {}
    return [names.get(token, token) for token in arguments]


def rows_of(exp: Path) -> list[Row]:
    """The status of every step, by the command line that was last used.

    Raises:
        ValueError: no pipeline has begun there, or its configuration has become invalid.
    """
    path = exp / "pipeline.json"
    if not path.exists():
        raise ValueError(f"{path}: no such file; no pipeline has begun in this folder")
    invocation = PipelineState.load(path).invocation
    # The command line's paths are relative to where it was given; of an experiment that came
    # from another machine, that folder may not exist here: then to where we are, as in pack.
    given = Path(invocation.get("cwd", "."))
    if not given.is_dir():
        logging.warning("%s: no such folder here; paths are taken from %s", given, Path.cwd())
        given = Path.cwd()
    with contextlib.chdir(given):
        arguments = with_present_names(invocation["arguments"])
        pipeline, _ = build_pipeline(arguments, lambda line: None)
        return step_rows(pipeline)


def main(cmd: Sequence[str] | None = None) -> int:
    """Run the command; returns 0, or 2 after a user error."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    parser = StrictParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--exp", type=Path, required=True, help="<expdir>/<tag>")
    exp: Path = parser.parse_args(cmd).exp
    return report_user_errors(lambda: print(format_rows(rows_of(exp))))


if __name__ == "__main__":
    sys.exit(main())
