"""Processes that do not outlive the one that started them; the same work on many things in them."""

from __future__ import annotations

import contextlib
import ctypes
import logging
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

from espnet_plugin.corpora.faults import AGAIN, naming

_SAY_EVERY = 30.0  # seconds
_CHUNK = 16
_PR_SET_PDEATHSIG = 1
# Loaded here, not in the child: between fork and exec as little as possible should happen.
_LIBC = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None
#: What a process that ended by SIGKILL may have died of.
KILLED = "killed from outside, by the kernel where memory ran out (dmesg tells)"


def die_with_parent(parent: int) -> None:
    """Called in a new child: the kernel will kill it when ``parent`` dies (Linux)."""
    if _LIBC is not None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it died before the call above took effect
            os._exit(1)


@contextlib.contextmanager
def worker_pool(nj: int, start_method: str = "fork") -> Iterator[ProcessPoolExecutor]:
    """A pool whose processes die with this one, and leave Ctrl-C to it.

    Args:
        nj: processes.
        start_method: ``spawn`` where this process may have threads, such as torch's.

    Raises:
        ValueError: (on leaving) one of them was killed.
    """
    others = set(multiprocessing.active_children())
    with naming(Path("/dev/shm")):  # its semaphores are there
        pool = ProcessPoolExecutor(
            max(1, nj),
            mp_context=multiprocessing.get_context(start_method),
            initializer=_become_worker,
            initargs=(os.getpid(),),
        )
    try:
        yield pool
    except BrokenProcessPool as error:
        raise ValueError(
            f"a worker process was {KILLED}; give a smaller --nj or close other programs, {AGAIN}"
        ) from error
    except (KeyboardInterrupt, SystemExit):  # must not wait for what is being worked on
        for process in set(multiprocessing.active_children()) - others:
            process.terminate()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def work_through[Item, Result](
    function: Callable[[Item], Result],
    items: Sequence[Item],
    nj: int,
    take: Callable[[Result], None],
    what: str,
) -> None:
    """Call `function` on all items and `take` on what it returns, in the order of the items.

    What is not begun when `take` or `function` raises is given up.

    Args:
        nj: processes.
        what: is done, for the log's lines of progress, such as "dump/org/train: recordings".

    Raises:
        ValueError: a process was killed.
    """
    began = said = time.monotonic()
    nj = max(1, min(nj, len(items)))
    with worker_pool(nj) as pool:
        chunk = max(1, min(_CHUNK, len(items) // (4 * nj)))
        for count, result in enumerate(pool.map(function, items, chunksize=chunk), 1):
            take(result)
            if (now := time.monotonic()) - said > _SAY_EVERY:
                said = now
                left = (now - began) / count * (len(items) - count)
                logging.info("%s: %d of %d, %.0f s to go", what, count, len(items), left)


def _become_worker(parent: int) -> None:
    die_with_parent(parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
