"""Means and ranges over seeds, and what a paired bootstrap says of differences."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from benchmarks.study.jobs import is_old
from benchmarks.study.results import Result
from benchmarks.study.units import Study, Unit, Wanted, grid_units
from espnet_plugin.scoring.bootstrap import Comparison, paired_bootstrap
from espnet_plugin.scoring.edit_distance import Counts

PARTS = ("dev", "test")


@dataclass(frozen=True)
class Spread:
    """A mean over seeds with the lowest and the highest."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        span = f" ({self.low:.1f} to {self.high:.1f})" if self.high > self.low else ""
        return f"{self.mean:.1f}{span}"


def spread(values: Iterable[float]) -> Spread:
    """Of at least one value."""
    found = list(values)
    return Spread(sum(found) / len(found), min(found), max(found))


@dataclass(frozen=True)
class Row:
    """An arm at one place of the other axes, over its seeds.

    Attributes:
        unit: of any seed; its arm is the table's, which may be a part of what was trained.
        results: seed -> result, without failures.
        stages: seed -> the train stage that counts.
        failures: seed -> what was said.
        old: seed -> why it is not of today's code or configuration.
    """

    unit: Unit
    results: Mapping[int, Result]
    stages: Mapping[int, str]
    failures: Mapping[int, str]
    old: Mapping[int, str]

    def wer(self, part: str) -> Spread:
        """Word error rate over the seeds."""
        return spread(result.wer(self.stages[seed], part) for seed, result in self.results.items())

    def cer(self, part: str) -> Spread:
        """Character error rate over the seeds."""
        return spread(result.cer(self.stages[seed], part) for seed, result in self.results.items())

    @property
    def hours(self) -> Spread | None:
        """Reference-system time of training; None where a machine was not measured."""
        found = [result.hours(self.stages[seed]) for seed, result in self.results.items()]
        known = [hours for hours in found if hours is not None]
        return spread(known) if known and len(known) == len(found) else None

    @property
    def place(self) -> tuple[str, str, str, float]:
        """All axes but arm and seed."""
        return self.unit.place


def table_rows(study: Study, code: str, results: Mapping[Unit, Result]) -> list[Row]:
    """A row for every arm of the grid that has at least one result or failure."""
    rows = []
    for unit in dict.fromkeys(replace(unit, seed=0) for unit in grid_units(study, Wanted())):
        trained = study.trained(unit.arm)
        until = study.arm(unit.arm).get("until")
        good: dict[int, Result] = {}
        stages, failures, old = {}, {}, {}
        for result in results.values():
            seed = result.unit.seed
            if result.unit != replace(unit, arm=trained, seed=seed):
                continue
            stage = until or (result.stages[-1] if result.stages else None)
            if result.failure or stage not in result.words:
                failures[seed] = result.failure or f"no decoding of stage {stage}"
                continue
            good[seed], stages[seed] = result, str(stage)
            why = is_old(study, result, code)
            if why:
                old[seed] = why
        if good or failures:
            rows.append(Row(unit, good, stages, failures, old))
    return rows


def common_seeds(a: Row, b: Row) -> list[int]:
    """Seeds of which both arms have results."""
    return sorted(set(a.results) & set(b.results))


def difference(a: Row, b: Row, *parts: str, paired: bool = True) -> Comparison | None:
    """b's word errors minus a's, those of seeds and parts together; None without a seed.

    Whole speakers or sessions are drawn.

    Args:
        paired: seeds that both have; else all of each, with the same weight of both arms.
    """
    seeds = [common_seeds(a, b)] * 2 if paired else [sorted(row.results) for row in (a, b)]
    if not all(seeds):
        return None
    speakers: dict[str, str] = {}
    sides = [
        _errors(row, own, len(others), parts, speakers)
        for row, own, others in ((a, seeds[0], seeds[1]), (b, seeds[1], seeds[0]))
    ]
    return paired_bootstrap(sides[0], sides[1], speakers=speakers)


def _errors(
    row: Row, seeds: Sequence[int], weight: int, parts: Sequence[str], speakers: dict[str, str]
) -> dict[str, Counts]:
    """Each utterance's word errors, added up over seeds and as often as told; notes speakers."""
    counts: dict[str, Counts] = {}
    for seed, part in itertools.product(seeds, parts):
        words = row.results[seed].words[row.stages[seed]][part]
        for name, (speaker, errors, tokens) in words.items():
            utterance = f"{part} {name}"
            speakers[utterance] = speaker
            one = Counts(sentences=1, tokens=weight * tokens, substitutions=weight * errors)
            counts[utterance] = counts.get(utterance, Counts()) + one
    return counts
