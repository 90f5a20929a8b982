"""Data-parallel jobs in ESPnet's layout: split the keys, run, resume, merge, check.

``logdir/keys.<JOB>.scp`` lists a job's utterances, ``logdir/output.<JOB>/`` takes its output and
``logdir/done.<JOB>`` marks its success. The outputs of all jobs are merged, sorted by
utterance; every utterance has to be in them or, with the reason, in ``skipped``.
"""

from __future__ import annotations

import os
import shlex
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from espnet_plugin.data.kaldi_files import some
from espnet_plugin.stages.process import ChildFailed, last_lines, start, wait_all
from espnet_plugin.stages.progress import clock
from espnet_plugin.stages.state import write_atomically

#: (key file, output folder) -> command line; the folder is ``logdir/output.JOB``.
CommandOf = Callable[[str, str], list[str]]


@dataclass(frozen=True)
class Job:
    """A command to be run over many utterances.

    Attributes:
        name: for messages.
        folder: takes the merged files and ``logdir``.
        keys: utterance ids.
        command: the command line for a key file and an output folder.
        outputs: file names (relative to an output folder) that hold one line per utterance.
        nj: number of jobs; a half-finished folder keeps the split it was begun with.
        backend: ``local``, or a Kaldi-style command such as ``slurm.pl --mem 4G``.
        threads: OMP_NUM_THREADS of each local job; None leaves the environment alone.
    """

    name: str
    folder: Path
    keys: Sequence[str]
    command: CommandOf
    outputs: tuple[str, ...]
    nj: int = 1
    backend: str = "local"
    threads: int | None = None

    @property
    def logdir(self) -> Path:
        return self.folder / "logdir"


def run_job(job: Job, tick: Callable[[], None], show: Callable[[str], None]) -> None:
    """Run, or finish running, all parts of a job and merge their output.

    Args:
        tick: called a few times a second.
        show: takes progress lines.

    Raises:
        ValueError: no keys, or utterances that are neither in the output nor skipped.
        ChildFailed: a part failed; its log's end is in the message.
    """
    if not job.keys:
        raise ValueError(f"{job.name}: no utterances to work on")
    nj = split_keys(job)
    meter = _Meter(job, nj, show)

    def on_tick() -> None:
        tick()
        meter()

    pending = [n for n in range(1, nj + 1) if not _done_marker(job, n).exists()]
    for number in pending:
        repair_outputs(job, number)
    if pending:
        if job.backend == "local":
            _run_local(job, pending, on_tick)
        else:
            _run_kaldi(job, nj, on_tick)
    merge_outputs(job, nj)
    meter.finish()


def split_keys(job: Job) -> int:
    """Write ``keys.<JOB>.scp`` of about equal size; returns the number of parts.

    A split that exists is kept when it covers the same keys, whatever ``nj`` says now: parts
    of the output belong to it.
    """
    job.logdir.mkdir(parents=True, exist_ok=True)
    keys = sorted(job.keys)
    marker = job.logdir / "split"
    if marker.exists():
        count = int(marker.read_text())
        old = [
            key
            for number in range(1, count + 1)
            for key in (job.logdir / f"keys.{number}.scp").read_text(encoding="utf-8").split()
        ]
        if old == keys:
            return count
        raise ValueError(
            f"{job.logdir}: holds parts of a job over other utterances; move {job.folder} away"
        )
    nj = max(1, min(job.nj, len(keys)))
    bounds = [len(keys) * number // nj for number in range(nj + 1)]
    for number in range(1, nj + 1):
        part = keys[bounds[number - 1] : bounds[number]]
        text = "".join(f"{key}\n" for key in part)
        write_atomically(job.logdir / f"keys.{number}.scp", text)
    write_atomically(marker, f"{nj}\n")
    return nj


def repair_outputs(job: Job, number: int) -> None:
    """Cut a killed part's output back to utterances that are complete in every file."""
    output = job.logdir / f"output.{number}"
    paths = [output / name for name in job.outputs]
    tables = [_complete_lines(path) for path in paths]
    if not any(tables):
        return
    complete = set(tables[0]).intersection(*tables[1:])
    for path, table in zip(paths, tables, strict=True):
        if path.exists():
            write_atomically(path, "".join(v for k, v in table.items() if k in complete))
    skipped = output / "skipped"
    if skipped.exists():
        lines = _complete_lines(skipped)
        write_atomically(skipped, "".join(v for k, v in lines.items() if k not in complete))


def merge_outputs(job: Job, nj: int) -> None:
    """Merge the parts' files, sorted by utterance, into ``folder``.

    Raises:
        ValueError: an utterance has no output and no reason, or an output is missing.
    """
    skipped: dict[str, str] = {}
    merged: list[dict[str, str]] = [{} for _ in job.outputs]
    for number in range(1, nj + 1):
        output = job.logdir / f"output.{number}"
        skipped.update(_complete_lines(output / "skipped"))
        for table, name in zip(merged, job.outputs, strict=True):
            table.update(_complete_lines(output / name))
    for table, name in zip(merged, job.outputs, strict=True):
        lost = sorted(key for key in job.keys if key not in table and key not in skipped)
        if lost:
            raise ValueError(
                f"{job.name}: {name} has no line for {some(lost)}, and they are not in 'skipped' "
                f"either; see {job.logdir} for logs, delete its done.* files to run again"
            )
    write_atomically(job.folder / "skipped", "".join(skipped[k] for k in sorted(skipped)))
    for table, name in zip(merged, job.outputs, strict=True):
        text = "".join(table[key] for key in sorted(table))
        write_atomically(job.folder / Path(name).name, text)


def _complete_lines(path: Path) -> dict[str, str]:
    """``id -> line`` of a file; a last line cut off by a kill is left out."""
    table: dict[str, str] = {}
    if path.exists():
        with path.open(encoding="utf-8", errors="replace", newline="\n") as stream:
            for line in stream:
                fields = line.split(maxsplit=1)
                if line.endswith("\n") and fields:
                    table[fields[0]] = line
    return table


def _done_marker(job: Job, number: int) -> Path:
    return job.logdir / f"done.{number}"


def _part_command(job: Job, number: int | str) -> list[str]:
    return job.command(str(job.logdir / f"keys.{number}.scp"), str(job.logdir / f"output.{number}"))


def _run_local(job: Job, pending: Sequence[int], tick: Callable[[], None]) -> None:
    environment = {}
    if job.threads is not None and "OMP_NUM_THREADS" not in os.environ:
        environment["OMP_NUM_THREADS"] = str(job.threads)
    logs = [job.logdir / f"log.{number}" for number in pending]
    processes = [
        start(_part_command(job, number), log, environment)
        for number, log in zip(pending, logs, strict=True)
    ]
    marked: set[int] = set()

    def mark_and_tick() -> None:
        for number, process in zip(pending, processes, strict=True):
            if number not in marked and process.poll() == 0:
                _done_marker(job, number).touch()
                marked.add(number)
        tick()

    statuses = wait_all(processes, mark_and_tick)
    for number, status, log in zip(pending, statuses, logs, strict=True):
        if status != 0:
            raise ChildFailed(f"{job.name}, part {number}", status, log)


def _run_kaldi(job: Job, nj: int, tick: Callable[[], None]) -> None:
    """All parts through one ``cmd JOB=1:nj log command`` call, as Kaldi's scripts do."""
    log = job.logdir / "log.JOB"
    command = [*shlex.split(job.backend), f"JOB=1:{nj}", str(log), *_part_command(job, "JOB")]
    console = job.logdir / "submit.log"
    status = wait_all([start(command, console)], tick)[0]
    if status != 0:
        raise ChildFailed(f"{job.name} ({job.backend})", status, console)
    for number in range(1, nj + 1):
        if not (job.logdir / f"output.{number}").exists():
            text = last_lines(job.logdir / f"log.{number}")
            raise ValueError(f"{job.name}: part {number} left no output:\n{text}")
        _done_marker(job, number).touch()


class _Meter:
    """Prints utterances done, of all, and the time left, now and then."""

    def __init__(self, job: Job, nj: int, show: Callable[[str], None], every: float = 10.0) -> None:
        self.job, self.nj, self.show, self.every = job, nj, show, every
        self.begun = self.last = time.monotonic()
        self.at_start = self.count()

    def count(self) -> int:
        total = 0
        for number in range(1, self.nj + 1):
            for name in (self.job.outputs[0], "skipped"):
                path = self.job.logdir / f"output.{number}" / name
                if path.exists():
                    total += path.read_bytes().count(b"\n")
        return total

    def __call__(self) -> None:
        now = time.monotonic()
        if now - self.last < self.every:
            return
        self.last = now
        done, total = self.count(), len(self.job.keys)
        fresh = done - self.at_start
        eta = f"  ETA {clock((now - self.begun) / fresh * (total - done))}" if fresh > 0 else ""
        self.show(f"{self.job.name:<10} {done}/{total} utterances{eta}")

    def finish(self) -> None:
        elapsed = clock(time.monotonic() - self.begun)
        self.show(f"{self.job.name:<10} {len(self.job.keys)} utterances in {elapsed}")
