"""The same work on many things, in several processes."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor

_SAY_EVERY = 30.0  # seconds
_CHUNK = 16


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
    """
    began = said = time.monotonic()
    nj = max(1, min(nj, len(items)))
    with ProcessPoolExecutor(nj) as pool:
        chunk = max(1, min(_CHUNK, len(items) // (4 * nj)))
        try:
            for count, result in enumerate(pool.map(function, items, chunksize=chunk), 1):
                take(result)
                if (now := time.monotonic()) - said > _SAY_EVERY:
                    said = now
                    left = (now - began) / count * (len(items) - count)
                    logging.info("%s: %d of %d, %.0f s to go", what, count, len(items), left)
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise
