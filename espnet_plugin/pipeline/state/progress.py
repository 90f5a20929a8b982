"""What ESPnet's train.log says, and how it is shown on the console."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

_STARTED = re.compile(r"(\d+)/(\d+)epoch started")
_RESULTS = re.compile(r"(\d+)epoch results: (.*)")
_VALUE = re.compile(r"(\w+)=(-?\d+(?:\.\d+)?(?:e[-+]?\d+)?|-?inf|nan)\b")
_TIME = re.compile(r"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d),\d{3} \(")
_NO_GRADIENTS = "gradients at all steps are invalid"
_BATCHES = re.compile(r"\[train\] mini-batch sizes summary: N-batch=(\d+)")


@dataclass(frozen=True)
class EpochResult:
    """One "results" line: ``train`` and ``valid`` map a statistic's name to its value."""

    epoch: int
    train: dict[str, float]
    valid: dict[str, float]


@dataclass
class LogTail:
    """Reads what was appended to a train.log since the last call.

    A log that is another file than before, or shorter, is read from its beginning: ESPnet's
    launcher moves train.log to train.1.log at every start.

    Attributes:
        offset: bytes read, or passed over.
        inode: of the file that `offset` is of; None before the first one.
        epoch, max_epoch: the epoch that runs (0: none started yet) and the last one.
        batches: of an epoch of training, where the log has told.
        times: when each epoch seen started, in the log's clock.
    """

    path: Path
    offset: int = 0
    inode: int | None = None
    epoch: int = 0
    max_epoch: int = 0
    batches: int | None = None
    results: list[EpochResult] = field(default_factory=list)
    times: list[tuple[int, datetime]] = field(default_factory=list)

    @classmethod
    def at_end(cls, path: Path) -> LogTail:
        """One that passes over what a log, if there is one, has of earlier runs."""
        try:
            status = path.stat()
        except FileNotFoundError:
            return cls(path)
        return cls(path, status.st_size, status.st_ino)

    def read(self) -> list[EpochResult]:
        """The epochs that ended since the last call."""
        try:
            stream = self.path.open("rb")
        except FileNotFoundError:  # not begun, or moved just now
            return []
        with stream:
            status = os.fstat(stream.fileno())
            if self.inode not in (None, status.st_ino) or status.st_size < self.offset:
                self.offset = 0
            self.inode = status.st_ino
            stream.seek(self.offset)
            block = stream.read()
        complete = block.rfind(b"\n") + 1
        self.offset += complete
        new = []
        for line in block[:complete].decode(errors="replace").splitlines():
            result = self._line(line)
            if result is not None:
                new.append(result)
        self.results += new
        return new

    def _line(self, line: str) -> EpochResult | None:
        if match := _BATCHES.search(line):
            self.batches = int(match[1])
        if match := _STARTED.search(line):
            self.epoch, self.max_epoch = int(match[1]), int(match[2])
            if stamp := _TIME.search(line):
                self.times.append((self.epoch, datetime.fromisoformat(stamp[1])))
        elif match := _RESULTS.search(line):
            return EpochResult(
                int(match[1]), _section(match[2], "train"), _section(match[2], "valid")
            )
        return None

    def seconds_per_epoch(self) -> float | None:
        """Mean over the epochs whose beginning and end were seen in one run."""
        spans = [
            (after - before).total_seconds()
            for (first, before), (second, after) in zip(self.times, self.times[1:], strict=False)
            if second == first + 1
        ]
        return sum(spans) / len(spans) if spans else None

    def seconds_left(self, now: datetime | None = None) -> float | None:
        """Estimated time to the end of the stage; None when nothing is known yet."""
        each = self.seconds_per_epoch()
        if each is None or not self.times:
            return None
        running = ((now or datetime.now()) - self.times[-1][1]).total_seconds()
        return max(0.0, (self.max_epoch - self.epoch + 1) * each - running)


def ended_without_gradients(log: Path) -> bool:
    """Whether the last epoch of a train.log had no valid gradient; ESPnet then breaks off.

    It has saved that epoch by then, so that another call finds it done and says nothing. Logs that
    ESPnet's launcher has moved away (train.1.log, the latest) count where there is nothing newer.
    """
    numbers = itertools.count(1)
    older = (log.with_name(f"{log.stem}.{number}{log.suffix}") for number in numbers)
    for path in itertools.takewhile(Path.is_file, itertools.chain([log], older)):
        found = None
        with path.open(encoding="utf-8", errors="replace") as lines:
            for line in lines:
                if _NO_GRADIENTS in line:
                    found = True
                elif _STARTED.search(line):
                    found = False
        if found is not None:
            return found
    return False


def _section(text: str, name: str) -> dict[str, float]:
    match = re.search(rf"\[{name}\] (.*?)(?=, \[\w+\] |$)", text)
    return {} if match is None else {k: float(v) for k, v in _VALUE.findall(match[1])}


def epoch_line(stage: str, result: EpochResult, tail: LogTail, elapsed: float) -> str:
    """One console line for an epoch that ended."""
    parts = [f"{stage:<10} epoch {result.epoch:>3}/{tail.max_epoch}"]
    for label, values, key in (
        ("train loss", result.train, "loss"),
        ("valid loss", result.valid, "loss"),
        ("wer", result.valid, "wer"),
        ("cer", result.valid, "cer"),
    ):
        if key in values:
            parts.append(f"{label} {values[key]:.3f}")
    rate = result.train.get("optim0_lr0")
    if rate is not None:
        parts.append(f"lr {rate:.2e}")
    parts.append(f"elapsed {clock(elapsed)}")
    left = tail.seconds_left()
    if left is not None and result.epoch < tail.max_epoch:
        parts.append(f"ETA {clock(left)}")
    return "  ".join(parts)


def clock(seconds: float) -> str:
    """``1:02:03`` or ``2:03``."""
    whole = round(seconds)
    hours, rest = divmod(whole, 3600)
    minutes, secs = divmod(rest, 60)
    return f"{hours}:{minutes:02d}:{secs:02d}" if hours else f"{minutes}:{secs:02d}"


class Throttle:
    """Calls ``action`` at most every ``interval`` seconds (of ``clock``)."""

    def __init__(
        self, action: Callable[[], None], interval: float, time: Callable[[], float]
    ) -> None:
        self.action, self.interval, self.time = action, interval, time
        self.last = time()

    def __call__(self) -> None:
        now = self.time()
        if now - self.last >= self.interval:
            self.last = now
            self.action()
