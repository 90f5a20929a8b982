"""The study's jobs: preparing a corpus, and training one unit."""

from __future__ import annotations

import datetime
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.study import recipe
from benchmarks.study.configuration import (
    configuration_hash,
    equal_codes,
    planned_stages,
    training_code_hash,
    write_configuration,
)
from benchmarks.study.results import Result, collect, commit, read_result, write_result
from benchmarks.study.units import Study, Unit
from benchmarks.study.work_queue import Job
from espnet_plugin.corpora.atomic import write_atomically
from espnet_plugin.corpora.text_lines import read_lines

#: Between the training codes, and the commits, that worked on one experiment.
SEVERAL = ".."


@dataclass(frozen=True)
class Preparation:
    """Data, labels and statistics of a corpus; alone, since its steps use all cores."""

    study: Study
    corpus: str
    labels: str
    cores: int
    nice: int
    needs: tuple[str, ...] = ()
    minutes: float = 0.0  # next to nothing beside trainings, whose estimates it must not bend

    @property
    def name(self) -> str:
        """Of its log."""
        return f"{self.corpus}-{self.labels}"

    def begin(self) -> subprocess.Popen[bytes]:
        """See `Job`."""
        recipe.end(self.study, self.name)
        recipe.lay_out(self.study, self.corpus)
        command = recipe.preparation(self.study, self.corpus, self.labels, self.cores)
        return recipe.start(self.study, self.corpus, self.name, command, self.nice)

    def finish(self, status: int, seconds: float) -> bool:
        """See `Job`."""
        return status == 0


@dataclass(frozen=True)
class Training:
    """One unit."""

    study: Study
    unit: Unit
    nice: int
    say: Callable[[str], None]
    anew: bool = False  # what other training code has left behind goes
    cores: int = 1

    @property
    def name(self) -> str:
        """Of its experiment and its log."""
        return self.unit.name

    @property
    def needs(self) -> tuple[str, ...]:
        """Prepared data, and the training it starts from."""
        source = self.study.source(self.unit)
        return (self.unit.data, *([source.name] if source is not None else []))

    @property
    def minutes(self) -> float:
        """From epochs, the corpus and the model's size; decoding counts as an epoch a stage."""
        stages = planned_stages(self.study, self.unit)
        labels = self.study.corpus(self.unit.corpus)["labels"][self.unit.labels]
        cost = float(self.study.raw["sizes"][self.unit.size].get("cost", 1))
        return (sum(stages.values()) + len(stages)) * float(labels.get("minutes", 1)) * cost

    def begin(self) -> subprocess.Popen[bytes]:
        """See `Job`."""
        recipe.end(self.study, self.name)
        if self.anew:
            self._clear()
        self._note_code()
        command = recipe.training(self.study, self.unit)
        return recipe.start(self.study, self.unit.corpus, self.name, command, self.nice)

    def finish(self, status: int, seconds: float) -> bool:
        """See `Job`; keeps the result, a failure as well."""
        now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M")
        path = write_configuration(self.study, self.unit)
        codes, commits = zip(*self._note_code(), strict=True)
        result = Result(
            unit=self.unit,
            code=SEVERAL.join(dict.fromkeys(codes)),
            configuration=configuration_hash(self.study, self.unit, path),
            commit=SEVERAL.join(dict.fromkeys(commits)),
            finished=now,
            seconds=seconds,
        )
        kept = vars(result)
        failure = f"exit status {status}: {recipe.tail(self.study, self.name)}" if status else ""
        if not failure:
            try:
                steps, words, letters = collect(self.study, self.unit)
                kept = {**kept, "steps": steps, "words": words, "characters": letters}
            except (ValueError, OSError) as error:
                failure = str(error)
        if failure:
            self.say(f"{self.name}: {failure}")
        write_result(self.study, Result(**{**kept, "failure": failure}))
        return not failure

    def _clear(self) -> None:
        """Remove what other training code has left behind."""
        known = self._codes()
        before = read_result(self.study, self.unit)
        if not known and before is not None:
            known = [(code, before.commit) for code in before.code.split(SEVERAL)]
        now = training_code_hash(self.study.raw["training_code"])
        if not {code for code, _ in known} <= equal_codes(now):
            self.say(f"{self.name}: of other training code; it is removed and trained anew")
            shutil.rmtree(self.study.experiment(self.unit), ignore_errors=True)

    def _codes(self) -> list[tuple[str, str]]:
        """The training code, and its commits, that the experiment has seen."""
        path = self._codes_file
        if not path.is_file() or not self.study.experiment(self.unit).exists():
            return []
        return [(code, name) for code, name in map(str.split, read_lines(path))]

    def _note_code(self) -> list[tuple[str, str]]:
        """Add today's: a training that was resumed days later is of more than one."""
        known = self._codes()
        now = training_code_hash(self.study.raw["training_code"]), commit()
        if now not in known:
            known.append(now)
            lines = (f"{code} {name}\n" for code, name in known)
            write_atomically(self._codes_file, "".join(lines))
        return known

    @property
    def _codes_file(self) -> Path:
        return write_configuration(self.study, self.unit).with_suffix(".codes")


def is_old(study: Study, result: Result, code: str) -> str:
    """Why a result is not of today's code and configuration; empty if it is."""
    if not set(result.code.split(SEVERAL)) <= equal_codes(code):
        return f"training code of {result.commit}"
    path = write_configuration(study, result.unit)
    if result.configuration != configuration_hash(study, result.unit, path):
        return "another configuration"
    return ""


def make_jobs(
    study: Study,
    units: Sequence[Unit],
    cores: int,
    nice: int,
    say: Callable[[str], None],
    again: Mapping[str, bool],
) -> tuple[list[Job], dict[str, str]]:
    """What is left to do, and the names of what is finished with what became of it.

    Args:
        again: "failed" and "old": whether units of that kind are trained once more.
    """
    code = training_code_hash(study.raw["training_code"])
    finished: dict[str, str] = {}
    for unit in units:
        result = read_result(study, unit)
        if result is not None and not (result.failure and again["failed"]):
            old = is_old(study, result, code)
            if not (old and again["old"]):
                finished[unit.name] = result.failure and f"failed before: {result.failure}"
    while (pair := _without_model(study, units, finished)) is not None:
        unit, source = pair
        say(f"{source.name}: trained elsewhere; again, since {unit.name} needs its model")
        del finished[source.name]
    jobs: list[Job] = [
        Training(study, unit, nice, say, again["old"])
        for unit in units
        if unit.name not in finished
    ]
    prepared: dict[str, str] = {}
    for unit in units:
        if unit.data in prepared or unit.name in finished:
            continue
        before = [name for name, corpus in prepared.items() if corpus == unit.corpus][-1:]
        prepared[unit.data] = unit.corpus
        first = Preparation(study, unit.corpus, unit.labels, cores, nice, tuple(before))
        jobs.insert(len(prepared) - 1, first)
    return jobs, finished


def _without_model(
    study: Study, units: Sequence[Unit], finished: Mapping[str, str]
) -> tuple[Unit, Unit] | None:
    """A training that is left, and its source, of which this machine has the result alone."""
    for unit in units:
        source = study.source(unit)
        if source is None or unit.name in finished or finished.get(source.name) != "":
            continue
        try:
            collect(study, source)
        except (ValueError, OSError):
            return unit, source
    return None
