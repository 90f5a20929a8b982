"""How the pipeline's commands speak and end: console lines, exit statuses, signals."""

from __future__ import annotations

import logging
import signal
from collections.abc import Callable
from types import FrameType

from espnet_plugin.pipeline.launch.process import ChildFailed


def show(line: str) -> None:
    """Print a console line at once, also into a pipe."""
    print(line, flush=True)


def report_user_errors(work: Callable[[], int | None]) -> int:
    """Do the work of a command; what the user can mend becomes a line of the log.

    Returns:
        What ``work`` returns (None counts as 0), or 2 (user error).
    """
    try:
        return work() or 0
    except ValueError as error:
        logging.error("%s", error)
        return 2


def run_command(work: Callable[[], int | None]) -> int:
    """Do the work of a command that runs others, and say how it ended.

    Returns:
        As `report_user_errors`, or 1 (a process failed) or 130 (Ctrl-C).
    """
    logging.basicConfig(level=logging.INFO, format="%(levelname)s: %(message)s")
    signal.signal(signal.SIGTERM, _terminate)
    try:
        return report_user_errors(work)
    except ChildFailed as error:
        logging.error("%s", error)
        return 1
    except KeyboardInterrupt:
        logging.error("interrupted; the same command continues from here")
        return 130


def _terminate(number: int, frame: FrameType | None) -> None:
    # As an exception, so that children are stopped and the state is saved on the way out.
    raise SystemExit(128 + number)
