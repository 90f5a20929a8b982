"""The records of a stream in their order, from one producer or from several that take turns."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

from espnet_plugin.data.stream.options import StreamOptions
from espnet_plugin.data.stream.producer import Producer
from espnet_plugin.data.stream.records import Record, encode


class RecordStream:
    """The records that one process of a training reads.

    Of W processes, process r reads the records r, W + r, 2 W + r, ...: no two read the same. With P
    producers it asks each of them for every P-th of its own; so P changes neither the records nor
    their order.

    Args:
        options: of the stage.
        seed: for the producer.
        start: records that this process has read before.
        rank, world: r and W.

    Attributes:
        waited: seconds spent waiting for the producers.
    """

    def __init__(
        self, options: StreamOptions, seed: int, start: int = 0, rank: int = 0, world: int = 1
    ) -> None:
        if world > 1 and not options.replays:
            raise ValueError(
                "stream.replays: false: several processes train, and would read the same; use one"
            )
        self._options, self._next = options, start
        self.waited = 0.0
        self._producers: dict[int, Producer] = {}
        count = options.processes
        ahead = -(-options.pool // count)
        for turn in range(start, start + count):
            number = world * turn + rank
            line = options.command
            if options.replays:
                line += f" --seed {seed} --skip {number}"
                line += f" --step {world * count}" if world * count > 1 else ""
            any_start = not options.replays
            producer = Producer(line, number, world * count, ahead, any_start)
            self._producers[turn % count] = producer

    def __iter__(self) -> Iterator[Record]:
        return self

    def __next__(self) -> Record:
        """The next record.

        Raises:
            ValueError: there is none, with its number and what the producer said.
        """
        producer = self._producers[self._next % len(self._producers)]
        began = time.monotonic()
        record = producer.next(self._options.timeout)
        self.waited += time.monotonic() - began
        self._next += 1
        return record

    def close(self) -> None:
        """End the producers."""
        for producer in self._producers.values():
            producer.close()


def try_producer(options: StreamOptions, seed: int) -> Record:
    """Start the producer and read its first records, before anything is trained; returns the first.

    Raises:
        ValueError: it fails, or it says something else when it is asked for the same again.
    """
    with contextlib.closing(RecordStream(options, seed)) as stream:
        first, second = next(stream), next(stream)
    if options.replays:
        with contextlib.closing(RecordStream(options, seed, start=1)) as stream:
            again = next(stream)
        if encode(again) != encode(second):
            raise ValueError(
                f"stream: {second.place} is another one when the producer starts at --skip 1: a "
                "killed training could not go on as if nothing had happened. Make the record a "
                "function of --seed and its number, or set stream.replays: false. Command: "
                f"{options.command}"
            )
    return first
