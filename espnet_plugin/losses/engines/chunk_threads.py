"""Chunks of cells side by side on a CPU: threads over chunks, one thread inside each.

Threads inside a chunk meet at a barrier after every operation, and wait there spinning. When
another program has the second core, they spin for a thread that is not running: two trainings
on two cores would take ten times as long as one after the other. Over chunks they meet a few
times a chunk, and wait asleep.
"""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager

import torch

_MOST_WORKERS = 16  # each holds a chunk's temporaries


class _OtherFailed(Exception):
    """Another worker has failed, and its error is the one to raise."""


class Turns:
    """Lets workers pass through numbered gates one by one, in the order of their chunks.

    Sums are then made in the same order whichever worker is faster, which makes their bits the
    same in every run; and all workers may share one sum. Several gates in a row, each for a
    part of the sums, keep the workers from waiting for one another for long.
    """

    def __init__(self, gates: int) -> None:
        self._next = [0] * gates
        self._changed = threading.Condition()
        self.stopped = False

    @contextmanager
    def turn(self, gate: int, number: int) -> Iterator[None]:
        """What is done inside comes after what number - 1 did in the same gate."""
        with self._changed:
            self._changed.wait_for(lambda: self.stopped or self._next[gate] == number)
            if self.stopped:
                raise _OtherFailed
        yield
        with self._changed:
            self._next[gate] += 1
            self._changed.notify_all()

    def stop(self) -> None:
        """Nobody begins anything any more; who waits is woken up."""
        with self._changed:
            self.stopped = True
            self._changed.notify_all()


def workers_for(chunks: int) -> int:
    """How many threads to use: torch's number, but no more than there are chunks."""
    return max(1, min(torch.get_num_threads(), chunks, _MOST_WORKERS))


def run_chunks(
    chunks: int, workers: int, turns: Turns, make_work: Callable[[], Callable[[int], None]]
) -> None:
    """Work on all chunks, each by whichever worker is free.

    Args:
        chunks: they are numbered from 0.
        workers: threads.
        turns: of those who wait for each other.
        make_work: gives one worker's function of a chunk's number; called in that worker's
            thread, so that working space lies near it.
    """
    numbers = itertools.count()  # in CPython, next() of it is atomic
    inference = torch.is_inference_mode_enabled()

    def work() -> None:
        try:
            # These modes belong to a thread.
            with torch.inference_mode(inference), torch.no_grad():
                function = make_work()
                while not turns.stopped and (number := next(numbers)) < chunks:
                    function(number)
        except _OtherFailed:
            return
        except BaseException:
            turns.stop()
            raise

    pool = _pool(workers)
    try:
        _finish([pool.submit(work) for _ in range(workers)])
    except BaseException:  # the user's interrupt, too, which no worker sees
        turns.stop()
        raise


def _finish(futures: list[Future[None]]) -> None:
    """Wait for all, then raise an error if there was one."""
    wait(futures)
    for future in futures:
        future.result()


_pools: dict[int, ThreadPoolExecutor] = {}
_pools_lock = threading.Lock()


def _forget_pools() -> None:
    """Threads do not live on in a forked process."""
    global _pools_lock
    _pools.clear()
    _pools_lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_pools)


def _pool(workers: int) -> ThreadPoolExecutor:
    """Threads that use one thread inside torch's operations; made once."""
    with _pools_lock:
        if workers not in _pools:
            _pools[workers] = _start(workers)
        return _pools[workers]


def _start(workers: int) -> ThreadPoolExecutor:
    pool = ThreadPoolExecutor(workers, thread_name_prefix="fused-loss")
    threads = torch.get_num_threads()
    started = threading.Barrier(workers)

    def prepare() -> None:
        # A thread takes over the process's number when it first needs one, not to do so later.
        torch.get_num_threads()
        torch.set_num_threads(1)
        started.wait()  # or one thread would prepare itself twice

    _finish([pool.submit(prepare) for _ in range(workers)])
    # Those calls changed the number of threads started later, too; this one changes it back.
    torch.set_num_threads(threads)
    return pool
