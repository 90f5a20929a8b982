"""A memory of old records: a uniform sample of all that have arrived (Vitter 1985, algorithm R).

The record at position i (from 0) takes a free place while there is one; later it takes place
j = floor(u_i (i + 1)) where j is below the number of places. u_i in [0, 1) comes from a generator
that counts (Philox), and depends on the key and i alone. So the positions that are held after n
records are a function of key and n: nothing has to be saved for a resume, and the held records
alone are asked of the producer again.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np

from espnet_plugin.data.stream.options import StreamOptions
from espnet_plugin.data.stream.reader import RecordStream
from espnet_plugin.data.stream.records import Record

_WORDS = 4  # of 64 bits, that Philox gives for a value of its counter
#: Records that are sooner read and thrown away than passed over by another start of the producer.
PASSED_OVER = 50


def targets(key: int, first: int, count: int) -> np.ndarray:
    """j of the positions from `first` on, [count] int64; see the module."""
    before = first % _WORDS
    source = np.random.Philox(key=key, counter=first // _WORDS)
    drawn = np.asarray(source.random_raw(before + count))[before:]
    shares = (drawn >> np.uint64(11)).astype(np.float64) * 2.0**-53
    return np.floor(shares * np.arange(first + 1, first + count + 1)).astype(np.int64)


def held_positions(size: int, key: int, arrived: int) -> list[int]:
    """Positions of the records in a reservoir's places, after `arrived` of them."""
    held = list(range(min(size, arrived)))
    if arrived > size:
        places = targets(key, size, arrived - size)
        for number in np.flatnonzero(places < size).tolist():
            held[int(places[number])] = size + number
    return held


class Reservoir:
    """The held records.

    Args:
        size: number of places.
        key: of all draws.
        arrived: records that were offered before.
        held: those of `held_positions`, in its order.
    """

    def __init__(self, size: int, key: int, arrived: int = 0, held: Sequence[Record] = ()) -> None:
        self._size, self._key, self._arrived = size, key, arrived
        self._held = list(held)

    def offer(self, records: Sequence[Record]) -> None:
        """The next records, in their order; some of them are kept."""
        places = targets(self._key, self._arrived, len(records)).tolist()
        for record, place in zip(records, places, strict=True):
            if len(self._held) < self._size:
                self._held.append(record)
            elif place < self._size:
                self._held[place] = record
        self._arrived += len(records)

    def drawn(self, count: int) -> list[Record]:
        """`count` different ones, all as likely; a function of key and arrivals alone."""
        source = np.random.Philox(key=self._key, counter=(1 + self._arrived) << 64)
        order = np.argsort(source.random_raw(len(self._held)), kind="stable")
        return [self._held[number] for number in order[:count].tolist()]


def recalled(
    options: StreamOptions, seed: int, turns: Iterable[int], rank: int = 0, world: int = 1
) -> list[Record]:
    """Records of a process, by their places in what it reads, asked of the producer again.

    Raises:
        ValueError: the producer fails.
    """
    wanted = list(turns)
    found: dict[int, Record] = {}
    for run in runs(sorted(wanted)):
        one = replace(options, pool=1, processes=1)  # nothing is read ahead
        with contextlib.closing(RecordStream(one, seed, run[0], rank, world)) as stream:
            for turn in range(run[0], run[-1] + 1):
                record = next(stream)
                if turn in run:
                    found[turn] = record
    return [found[turn] for turn in wanted]


def runs(turns: Sequence[int]) -> list[list[int]]:
    """Ascending numbers in groups that one start of the producer gives; see `PASSED_OVER`."""
    found: list[list[int]] = []
    for turn in turns:
        if found and turn - found[-1][-1] <= PASSED_OVER:
            found[-1].append(turn)
        else:
            found.append([turn])
    return found
