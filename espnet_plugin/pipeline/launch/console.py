"""How the pipeline's commands speak and end: console lines, exit statuses, signals."""

from __future__ import annotations

import logging
import signal
from collections.abc import Callable
from types import FrameType

from espnet_plugin.corpora.faults import explain
from espnet_plugin.pipeline.launch.process import ChildFailed


def show(line: str) -> None:
    """Print a console line at once, also into a pipe."""
    print(line, flush=True)


def report_user_errors(work: Callable[[], int | None]) -> int:
    """Do the work of a command; what the user can mend becomes a line of the log.

    Returns:
        As `report_faults`, or 2 (user error).
    """
    try:
        return report_faults(work)
    except ValueError as error:
        logging.error("%s", error)
        return 2


def report_faults(work: Callable[[], int | None]) -> int:
    """Do the work of a command; Ctrl-C and what a disk may do become a line of the log.

    Returns:
        What ``work`` returns (None counts as 0), 2 (a full disk and the like) or 130 (Ctrl-C).
    """
    try:
        return work() or 0
    except KeyboardInterrupt:
        logging.error("interrupted; the same command continues from here")
        return 130
    except OSError as error:
        message = explain(error)
        if message is None:
            raise
        logging.error("%s", message)
        return 2


def run_command(work: Callable[[], int | None]) -> int:
    """Do the work of a command that runs others, and say how it ended.

    Returns:
        As `report_user_errors`, or 1 (a process failed).
    """
    logging.basicConfig(level=logging.INFO, format="%(levelname)s: %(message)s")
    signal.signal(signal.SIGTERM, _terminate)
    try:
        return report_user_errors(work)
    except ChildFailed as error:
        logging.error("%s", error)
        return 1


def _terminate(number: int, frame: FrameType | None) -> None:
    # As an exception, so that children are stopped and the state is saved on the way out.
    raise SystemExit(128 + number)
