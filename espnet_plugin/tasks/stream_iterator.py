"""ESPnet's iterator over a stream: epochs of batches from a producer, the place kept on disk.

Records are read in pools, sorted by length and cut into batches, in an order drawn from the seed
and the pool's place alone. The place at the end of an epoch is the first record of the pool begun
and the number of its batches that are used up. It is written before the epoch is validated, beside
the epoch's before, so that it is there whichever of the two a kill leaves in ESPnet's checkpoint.

With a reservoir, a part of each pool are old records. New ones are offered to it pool by pool,
after the old ones are drawn; what it holds at a place follows from the place.
"""

from __future__ import annotations

import json
import logging
import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from espnet2.iterators.abs_iter_factory import AbsIterFactory

from espnet_plugin.corpora.atomic import write_atomically
from espnet_plugin.data.stream.options import StreamOptions
from espnet_plugin.data.stream.reader import RecordStream
from espnet_plugin.data.stream.records import Record
from espnet_plugin.data.stream.reservoir import Reservoir, held_positions, recalled
from espnet_plugin.nn.accelerators.base import seeded_generator

_OFTEN_WAITED = 0.2  # share of an epoch's time

#: An utterance as ESPnet's datasets give it.
Utterance = tuple[str, dict[str, np.ndarray]]


@dataclass(frozen=True)
class Place:
    """Where an epoch begins.

    Attributes:
        record: first record of the pool (of this process).
        batches: of that pool's that are used up.
    """

    record: int = 0
    batches: int = 0


@dataclass(frozen=True)
class Process:
    """Which of a training's processes this is."""

    rank: int = 0
    world: int = 1


class StreamIterFactory(AbsIterFactory):
    """Batches of a stream.

    Args:
        options: of the stage.
        seed: of the producer and of the order of batches.
        prepare: from a record to what the model reads.
        group: from utterances to batches, as lists of their places.
        collate: from utterances to ESPnet's batch.
        num_iters_per_epoch: batches of an epoch.
        folder: of the stage, for the place.
        process: which one this is.
    """

    def __init__(
        self,
        options: StreamOptions,
        seed: int,
        prepare: Callable[[Record], Utterance],
        group: Callable[[Sequence[Utterance]], Sequence[Sequence[int]]],
        collate: Callable[[Sequence[Utterance]], Any],
        num_iters_per_epoch: int,
        folder: Path,
        process: Process = Process(),
    ) -> None:
        self._options, self._seed, self._process = options, seed, process
        self._prepare, self._group, self._collate = prepare, group, collate
        self.num_iters_per_epoch = num_iters_per_epoch
        self._path = folder / f"stream.{process.rank}.json"
        self._stream: RecordStream | None = None
        self._ended: int | None = None  # the epoch that this object has just come to the end of
        self._place, self._pool = Place(), list[list[Utterance]]()
        self._reservoir: Reservoir | None = None

    def build_iter(self, epoch: int, shuffle: bool | None = None) -> StreamEpoch:
        """The batches of an epoch (from 1)."""
        return StreamEpoch(self, epoch)

    def close(self) -> None:
        """End the producers."""
        if self._stream is not None:
            self._stream.close()
        self._stream = self._ended = None

    def batches(self, epoch: int) -> Iterator[Any]:
        """Those of an epoch, from where the one before ended."""
        if self._ended != epoch - 1 or self._stream is None:
            self._go_to(self._begin(epoch))
        assert self._stream is not None
        self._ended = None
        began, waited = time.monotonic(), self._stream.waited
        for _ in range(self.num_iters_per_epoch):
            if not self._pool:
                self._go_on()
            batch = self._pool.pop(0)
            self._place = Place(self._place.record, self._place.batches + 1)
            yield self._collate(batch)
        self._keep(epoch)
        self._ended = epoch
        self._tell(epoch, time.monotonic() - began, self._stream.waited - waited)

    def _begin(self, epoch: int) -> Place:
        if epoch == 1 or not self._options.replays:
            if epoch > 1:
                logging.warning(
                    "stream: the producer does not replay, so what follows is not what an "
                    "undisturbed training would have seen%s",
                    ", and the reservoir is empty again" if self._options.reservoir else "",
                )
            return Place()
        kept = self._read()
        if str(epoch - 1) not in kept:
            raise ValueError(
                f"{self._path}: the checkpoint is of epoch {epoch - 1}, but the stream's place is "
                f"known after {', '.join(kept) or 'none'}; bring back the whole folder of the "
                "stage, or move it aside to train the stage anew"
            )
        return Place(**kept[str(epoch - 1)])

    def _go_to(self, place: Place) -> None:
        self.close()
        process = self._process
        self._stream = RecordStream(
            self._options, self._seed, place.record, process.rank, process.world
        )
        self._place, self._pool = place, []
        if self._options.reservoir:
            self._reservoir = self._filled(place.record)
        if place.batches:
            self._pool = self._read_pool()[place.batches :]

    def _filled(self, arrived: int) -> Reservoir:
        """The reservoir after so many records of this process."""
        size, process = self._options.reservoir, self._process
        key = seeded_generator(self._seed, "reservoir", process.rank).initial_seed()
        turns = held_positions(size, key, arrived)
        began = time.monotonic()
        held = recalled(self._options, self._seed, turns, process.rank, process.world)
        if held:
            seconds = time.monotonic() - began
            logging.info("stream: %d old records came again in %.0f s", len(held), seconds)
        return Reservoir(size, key, arrived, held)

    def _old_records(self) -> int:
        """Of the pool that begins at the place."""
        return self._options.old_records(self._place.record)

    def _go_on(self) -> None:
        """To the next pool."""
        if self._place.batches:
            self._place = Place(self._place.record + self._options.pool - self._old_records())
        self._pool = self._read_pool()

    def _read_pool(self) -> list[list[Utterance]]:
        assert self._stream is not None
        old = self._old_records()
        new = [next(self._stream) for _ in range(self._options.pool - old)]
        records = new if self._reservoir is None else new + self._reservoir.drawn(old)
        if self._reservoir is not None:
            self._reservoir.offer(new)
        utterances = [self._prepare(record) for record in records]
        groups = self._group(utterances)
        order = list(range(len(groups)))
        draws = seeded_generator(self._seed, self._process.rank, self._place.record)
        random.Random(draws.initial_seed()).shuffle(order)
        return [[utterances[n] for n in groups[number]] for number in order]

    def _settings(self) -> dict[str, Any]:
        """What a place means something with."""
        of, options = self._process, self._options
        found: dict[str, Any] = {"pool": options.pool, "seed": self._seed, "world": of.world}
        if options.reservoir:
            found |= {"reservoir": options.reservoir, "recent_share": options.recent_share}
        return found

    def _read(self) -> dict[str, Any]:
        try:
            content = json.loads(self._path.read_text(encoding="utf-8"))
            settings, epochs = content["settings"], dict(content["epochs"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f"{self._path}: the stream's place cannot be read ({error}), and the checkpoint "
                "beside it was trained on a stream; bring it back, or move the folder aside to "
                "train the stage anew"
            ) from error
        if settings != self._settings():
            raise ValueError(
                f"{self._path}: the stage began with {settings}, and now has {self._settings()}; "
                "bring back the old values (world: processes that train), or move the folder "
                "aside to train the stage anew"
            )
        return epochs

    def _keep(self, epoch: int) -> None:
        """Write the place after an epoch, beside the one before."""
        kept = self._read() if epoch > 1 and self._path.exists() else {}
        epochs = {n: place for n, place in kept.items() if n == str(epoch - 1)}
        epochs[str(epoch)] = asdict(self._place)
        content = {"settings": self._settings(), "epochs": epochs}
        write_atomically(self._path, json.dumps(content) + "\n")

    def _tell(self, epoch: int, seconds: float, waited: float) -> None:
        share = waited / max(seconds, 1e-9)
        often = share > _OFTEN_WAITED
        hint = "; set stream.processes higher, or give the producer a core" if often else ""
        logging.log(
            logging.WARNING if often else logging.INFO,
            "stream: epoch %d ended in the pool from record %d; waited %.1f of %.1f s (%.0f %%) "
            "for the producer%s",
            *(epoch, self._place.record, waited, seconds, 100 * share, hint),
        )


class StreamEpoch:
    """One epoch's batches, with a length, as ESPnet's training loop takes them."""

    def __init__(self, factory: StreamIterFactory, epoch: int) -> None:
        self._factory, self._epoch = factory, epoch

    def __len__(self) -> int:
        return self._factory.num_iters_per_epoch

    def __iter__(self) -> Iterator[Any]:
        return self._factory.batches(self._epoch)


def without_global_draws(
    function: Callable[[], dict[str, np.ndarray]], *seed: object
) -> dict[str, np.ndarray]:
    """A function's result, its draws from Python's and NumPy's generators fixed by `seed`.

    ESPnet's preprocessor may add noise; which utterance gets which must not depend on what was
    read before, as that changes with a resume.
    """
    states = random.getstate(), np.random.get_state()
    number = seeded_generator(*seed).initial_seed()
    random.seed(number)
    np.random.seed(number % 2**32)
    try:
        return function()
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
