"""How the recipes' local/data.py begin and end."""

from __future__ import annotations

import logging
from collections.abc import Callable

from espnet_plugin.corpora.faults import explain


def run_preparation(prepare: Callable[[], None]) -> int:
    """Run a preparation, its messages with the time; returns the exit status of the program.

    What the user can cause (`ValueError`, `OSError`) is said in one message without a traceback.
    """
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    try:
        prepare()
    except ValueError as error:
        logging.error("%s", error)
        return 1
    except OSError as error:
        logging.error("%s", explain(error) or error)
        return 1
    return 0
