"""Write <exp>/report/report.md and its figures, of a finished pipeline or of a running one.

python -m espnet_plugin.bin.report --exp exp/tag
"""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

from espnet_plugin.corpora.strict_parser import StrictParser
from espnet_plugin.pipeline.launch.console import report_user_errors
from espnet_plugin.report.markdown import write_report


def get_parser() -> argparse.ArgumentParser:
    """Return the parser of this command."""
    parser = StrictParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--exp", type=Path, required=True, help="the pipeline, <expdir>/<tag>")
    return parser


def main(cmd: list[str] | None = None) -> int:
    """Run the command; return 0, or 2 after a user error."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s: %(message)s")
    logging.getLogger("matplotlib").setLevel(logging.WARNING)
    args = get_parser().parse_args(cmd)
    return report_user_errors(lambda: print(write_report(args.exp)))


if __name__ == "__main__":
    sys.exit(main())
