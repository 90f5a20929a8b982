"""Data-parallel jobs in ESPnet's layout: split the keys, resume, merge, check.

``logdir/keys.<PART>.scp`` lists a part's utterances, ``logdir/output.<PART>/`` takes its output
and ``logdir/done.<PART>`` marks its success. The outputs of all parts are merged, sorted by
utterance; every utterance has to be in them or, with the reason, in ``skipped``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from espnet_plugin.corpora.atomic import write_atomically
from espnet_plugin.corpora.text_lines import read_lines
from espnet_plugin.data.kaldi_files import some
from espnet_plugin.pipeline.launch.job_backends import (
    JobPart,
    ProgressMeter,
    run_kaldi,
    run_local,
    write_parts,
)
from espnet_plugin.pipeline.plan.options import RunOptions

FIRST = "1best_recog/"

#: (key file, output folder) -> arguments of the job's program.
ArgumentsOf = Callable[[str, str], list[str]]


@dataclass(frozen=True)
class Job:
    """A program to be run over many utterances.

    Attributes:
        name: for messages.
        folder: takes the merged files and ``logdir``.
        keys: utterance ids.
        program: its name, see `program_module`.
        arguments: its arguments for a key file and an output folder.
        outputs: file names (relative to an output folder) that hold one line per utterance.
        nj: number of parts; a half-finished folder keeps the split it was begun with.
        options: where and how processes run.
    """

    name: str
    folder: Path
    keys: Sequence[str]
    program: str
    arguments: ArgumentsOf
    outputs: tuple[str, ...]
    nj: int
    options: RunOptions

    @property
    def logdir(self) -> Path:
        return self.folder / "logdir"

    def part(self, number: int | str) -> JobPart:
        """One part; ``JOB`` stands for the number in Kaldi-style commands."""
        keys, output = self.logdir / f"keys.{number}.scp", self.logdir / f"output.{number}"
        return JobPart(
            self.program,
            self.arguments(str(keys), str(output)),
            self.logdir / f"log.{number}",
            self.logdir / f"done.{number}",
        )


def make_job(
    name: str,
    folder: Path,
    keys: Sequence[str],
    program: str,
    arguments: ArgumentsOf,
    outputs: tuple[str, ...],
    options: RunOptions,
    settings: Mapping[str, Any],
) -> Job:
    """A job with as many parts as ``settings`` (``nj``) or ``options`` say.

    Raises:
        ValueError: no keys.
    """
    if not keys:
        raise ValueError(f"{name}: no utterances to work on")
    nj = int(settings.get("nj") or options.inference_nj)
    return Job(name, folder, keys, program, arguments, outputs, nj, options)


def run_jobs(
    jobs: Sequence[Job], parallel: int, tick: Callable[[], None], show: Callable[[str], None]
) -> None:
    """Run, or finish running, all parts of all jobs and merge their output.

    Args:
        parallel: local processes at a time.
        tick: called a few times a second.
        show: takes progress lines.

    Raises:
        ValueError: utterances that are neither in the output nor skipped.
        ChildFailed: a part failed; its log's end is in the message.
    """
    if not jobs:
        return
    options = jobs[0].options
    counts = {job.name: split_keys(job) for job in jobs}
    files = [
        job.logdir / f"output.{number}" / name
        for job in jobs
        for number in range(1, counts[job.name] + 1)
        for name in (job.outputs[0], "skipped")
    ]
    label = jobs[0].name if len(jobs) == 1 else f"{len(jobs)} jobs"
    meter = ProgressMeter(label, sum(len(job.keys) for job in jobs), files, show)

    def on_tick() -> None:
        tick()
        meter()

    pending = []
    for job in jobs:
        numbers = [n for n in range(1, counts[job.name] + 1) if not job.part(n).done.exists()]
        for number in numbers:
            repair_outputs(job, number)
        command = options.inference_cmd
        if numbers and command != "local":
            run_kaldi(command, options.python, job.part("JOB"), counts[job.name], on_tick)
        else:
            pending += [job.part(number) for number in numbers]
    if pending:
        run_local(pending, parallel, options.python, jobs[0].logdir, on_tick)
    for job in jobs:
        merge_outputs(job, counts[job.name])
    meter.finish()


def split_keys(job: Job) -> int:
    """Write ``keys.<PART>.scp`` of about equal size; returns the number of parts.

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
            for key in read_lines(job.logdir / f"keys.{number}.scp")
        ]
        if old == keys:
            return count
        raise ValueError(
            f"{job.logdir}: holds parts of a job over other utterances; move {job.folder} away"
        )
    nj = max(1, min(job.nj, len(keys)))
    write_parts(keys, nj, lambda number: job.logdir / f"keys.{number}.scp")
    write_atomically(marker, f"{nj}\n")
    return nj


def repair_outputs(job: Job, number: int) -> None:
    """Cut a killed part's output back to utterances that are complete in every file."""
    output = job.logdir / f"output.{number}"
    paths = [output / name for name in job.outputs]
    tables = [_complete_lines(path) for path in paths]
    if not any(path.exists() for path in paths):
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
        ValueError: an utterance has no output and no reason.
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
        write_atomically(job.folder / name, text)
        if name.startswith(FIRST):  # ESPnet's scripts keep the best hypotheses in the folder itself
            write_atomically(job.folder / name.removeprefix(FIRST), text)


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
