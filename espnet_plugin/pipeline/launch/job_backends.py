"""Where the parts of a job run: on this machine, or through a Kaldi-style command."""

from __future__ import annotations

import json
import os
import shlex
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from espnet_plugin.corpora.atomic import write_atomically
from espnet_plugin.pipeline.launch.process import ChildFailed, start, wait_all
from espnet_plugin.pipeline.launch.programs import program_module
from espnet_plugin.pipeline.state.progress import clock


@dataclass(frozen=True)
class JobPart:
    """One process: one of our programs, its log and its marker of success."""

    program: str
    arguments: list[str]
    log: Path
    done: Path


def run_local(
    parts: Sequence[JobPart], parallel: int, python: str, folder: Path, tick: Callable[[], None]
) -> None:
    """Run parts on this machine, ``parallel`` at a time.

    One process (`espnet_plugin.jobs.run_many`) imports ESPnet, which takes many seconds, and
    forks for every part.

    Raises:
        ChildFailed: a part failed.
    """
    parallel = max(1, min(parallel, len(parts)))
    spec = [
        {"program": p.program, "arguments": p.arguments, "log": str(p.log), "done": str(p.done)}
        for p in parts
    ]
    path, log = folder / "run_many.json", folder / "run_many.log"
    write_atomically(path, json.dumps({"parallel": parallel, "commands": spec}, indent=1))
    environment = {}
    if "OMP_NUM_THREADS" not in os.environ:
        environment["OMP_NUM_THREADS"] = str(max(1, (os.cpu_count() or 1) // parallel))
    command = [*shlex.split(python), "-m", "espnet_plugin.jobs.run_many", str(path)]
    sizes = {part.log: _size(part.log) for part in parts}
    status = wait_all([start(command, log, environment)], tick)[0]
    for part in parts:
        if not part.done.exists():
            # A part that never began has only the log of an earlier attempt, if any.
            began = _size(part.log) > sizes[part.log]
            raise ChildFailed(part.program, status, part.log if began else log)
    if status != 0:
        raise ChildFailed("run_many", status, log)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def run_kaldi(backend: str, python: str, part: JobPart, nj: int, tick: Callable[[], None]) -> None:
    """All parts through one ``cmd JOB=1:nj log command`` call, as Kaldi's scripts do.

    Args:
        part: with ``JOB`` in place of the part's number.

    Raises:
        ChildFailed: the command failed; Kaldi's commands do when any part does.
    """
    program = [*shlex.split(python), "-m", program_module(part.program), *part.arguments]
    command = [*shlex.split(backend), f"JOB=1:{nj}", str(part.log), *program]
    console = part.log.with_name("submit.log")
    status = wait_all([start(command, console)], tick)[0]
    if status != 0:
        raise ChildFailed(f"{part.program} ({backend})", status, console)
    for number in range(1, nj + 1):
        Path(str(part.done).replace("JOB", str(number))).touch()


def run_parts(
    part: Callable[[int | str], JobPart],
    count: int,
    backend: str,
    parallel: int,
    python: str,
    tick: Callable[[], None],
) -> None:
    """All parts of one job that are not done, where its backend says.

    Args:
        part: of a number; ``JOB`` stands for the number in Kaldi-style commands.
        count: parts there are.
        backend: "local", or a Kaldi-style command.
        parallel: local processes at a time.

    Raises:
        ChildFailed: a part failed.
    """
    pending = [one for one in map(part, range(1, count + 1)) if not one.done.exists()]
    if pending and backend != "local":
        run_kaldi(backend, python, part("JOB"), count, tick)
    elif pending:
        run_local(pending, parallel, python, pending[0].log.parent, tick)


def write_parts(keys: Sequence[str], count: int, path: Callable[[int], Path]) -> None:
    """The utterances of each of ``count`` parts, of about equal size and in their order.

    Args:
        path: of a part's number, from 1 on.
    """
    for number in range(1, count + 1):
        part = keys[len(keys) * (number - 1) // count : len(keys) * number // count]
        write_atomically(path(number), "".join(f"{key}\n" for key in part))


class ProgressMeter:
    """Prints utterances done, of all, and the time left, now and then.

    Args:
        label: what is being done.
        total: utterances.
        files: their lines are counted.
        show: takes the lines.
        every: seconds between them; six times that where nothing moves (ESPnet is starting).
    """

    def __init__(
        self,
        label: str,
        total: int,
        files: Sequence[Path],
        show: Callable[[str], None],
        every: float = 10.0,
    ) -> None:
        self.label, self.total, self.files = label, total, files
        self.show, self.every = show, every
        self.begun = self.last = self.looked = time.monotonic()
        self.at_start = self.shown = self.count()

    def count(self) -> int:
        """Utterances that are done."""
        return sum(p.read_bytes().count(b"\n") for p in self.files if p.exists())

    def __call__(self) -> None:
        now = time.monotonic()
        if now - self.looked < self.every:
            return
        self.looked = now
        done = self.count()
        if done == self.shown and now - self.last < 6 * self.every:
            return
        self.last, self.shown = now, done
        fresh = done - self.at_start
        left = (now - self.begun) / fresh * (self.total - done) if fresh > 0 else None
        eta = "" if left is None else f"  ETA {clock(left)}"
        self.show(f"{self.label:<10} {done}/{self.total} utterances{eta}")

    def finish(self) -> None:
        """The closing line."""
        elapsed = clock(time.monotonic() - self.begun)
        self.show(f"{self.label:<10} {self.total} utterances in {elapsed}")
