"""The queue of trainings: one core each, resumable, with what is left to do."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol


class Job(Protocol):
    """Something to run once."""

    @property
    def name(self) -> str:
        """Unique."""

    @property
    def needs(self) -> Sequence[str]:
        """Jobs that have to be done before."""

    @property
    def cores(self) -> int:
        """That it uses; one that uses all waits until it is alone."""

    @property
    def minutes(self) -> float:
        """What it will take, roughly; only ratios between jobs matter once one is done."""

    def begin(self) -> subprocess.Popen[bytes]:
        """Start it."""

    def finish(self, status: int, seconds: float) -> bool:
        """Keep what it gave; False if it failed."""


@dataclass
class _Running:
    job: Job
    process: subprocess.Popen[bytes]
    since: float


@dataclass
class Queue:
    """Runs jobs, as many at a time as there are cores.

    Attributes:
        jobs: in their order.
        cores: to use.
        say: takes lines of progress.
        poll: seconds between looks at what runs.
        every: seconds between lines of progress where nothing happens.
    """

    jobs: Sequence[Job]
    cores: int
    say: Callable[[str], None]
    poll: float = 1.0
    every: float = 600.0
    done: set[str] = field(default_factory=set)
    failed: dict[str, str] = field(default_factory=dict)
    _running: list[_Running] = field(default_factory=list)
    _spent: list[tuple[float, float]] = field(default_factory=list)  # estimated, needed minutes

    def run(self) -> None:
        """Run everything that can be run."""
        said = time.monotonic()
        while True:
            changed = self._collect()
            changed |= self._start()
            if not self._running:
                break
            if changed or time.monotonic() - said > self.every:
                said = time.monotonic()
                self.say(self.progress())
            time.sleep(self.poll)
        self.say(self.progress())

    def stop(self) -> None:
        """End what runs."""
        for running in self._running:
            running.process.terminate()

    def progress(self) -> str:
        """Done, running and failed jobs, and the time left."""
        running = ", ".join(running.job.name for running in self._running) or "nothing"
        failed = f", {len(self.failed)} failed" if self.failed else ""
        left = self.minutes_left()
        clock = f"{int(left // 60)} h {int(left % 60):02d} min"
        done = sum(job.name in self.done for job in self.jobs)
        return f"{done} of {len(self.jobs)} done{failed}; {running}; {clock} left"

    def minutes_left(self) -> float:
        """Estimate: the jobs' own estimates times what finished ones needed of theirs."""
        guessed = sum(pair[0] for pair in self._spent)
        ratio = sum(pair[1] for pair in self._spent) / guessed if guessed else 1.0
        now, work, longest = time.monotonic(), 0.0, 0.0
        running = {running.job.name: running for running in self._running}
        for job in self.jobs:
            if job.name in self.done or job.name in self.failed:
                continue
            left = job.minutes * ratio
            if job.name in running:
                left = max(left - (now - running[job.name].since) / 60, 0.05 * left)
            work, longest = work + left, max(longest, left)
        return max(work / max(self.cores, 1), longest)

    def _collect(self) -> bool:
        changed = False
        for running in list(self._running):
            status = running.process.poll()
            if status is None:
                continue
            self._running.remove(running)
            seconds = time.monotonic() - running.since
            changed = True
            if running.job.finish(status, seconds):
                self.done.add(running.job.name)
                if running.job.minutes > 0:
                    self._spent.append((running.job.minutes, seconds / 60))
            else:
                self.give_up(running.job.name, "failed")
        return changed

    def give_up(self, name: str, why: str) -> None:
        """Mark a job as failed, and with it all that need it."""
        self.failed[name] = why
        for job in self.jobs:
            if name in job.needs and job.name not in self.failed:
                self.give_up(job.name, f"needs {name}")

    def _start(self) -> bool:
        changed = False
        busy = {running.job.name for running in self._running}
        for job in self.jobs:
            free = self.cores - sum(running.job.cores for running in self._running)
            waits = job.name in self.done or job.name in self.failed or job.name in busy
            if waits or not set(job.needs) <= self.done:
                continue
            if min(job.cores, self.cores) > free:
                break  # what comes later must not take its place
            self._running.append(_Running(job, job.begin(), time.monotonic()))
            changed = True
        return changed
