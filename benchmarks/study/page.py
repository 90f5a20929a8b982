"""benchmarks/RESULTS_study.md, from results and nothing else."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from benchmarks.study import screening
from benchmarks.study.configuration import training_code_hash
from benchmarks.study.figure import draw
from benchmarks.study.results import Result, read_results
from benchmarks.study.step_table import step_cost_section
from benchmarks.study.summary import PARTS, Row, common_seeds, difference, table_rows
from benchmarks.study.units import ROOT, Study, Unit, Wanted, select
from espnet_plugin.corpora.atomic import write_atomically

BASELINE, CLAIM = "full_sum_only", "progressive"
#: Arms that are drawn and compared; all others are ablations of CLAIM.
MAIN = (CLAIM, "progressive_without_mbr", BASELINE, "full_sum_from_aligner")
#: Speakers or sessions without which a bootstrap says nothing: of five, equal signs by chance alone
#: are no rarer than 2 in 32.
ENOUGH = 6


def write_page(study: Study) -> Path:
    """Write the page and its picture; returns the page.

    Raises:
        ValueError: a screening of which nothing has been trained.
    """
    code = training_code_hash(study.raw["training_code"])
    results = read_results(study, all_units(study))
    rows = table_rows(study, code, results)
    page = ROOT / str(study.raw["page"])
    if "screening" in study.raw:
        lines = [*screening.lines(study, rows, page), *_failures(rows), *_provenance(rows, results)]
        write_atomically(page, "\n".join(lines) + "\n")
        return page
    figures = draw(rows, MAIN, ROOT / str(study.raw["figure"]))
    write_atomically(page, "\n".join(_lines(study, rows, results, figures, page)) + "\n")
    return page


def all_units(study: Study) -> list[Unit]:
    """Those of the grid, and other seeds of theirs that have a result."""
    units = set(select(study, Wanted()))
    found = {path.stem.rpartition("-s")[2] for path in study.results.glob("*.json")}
    seeds = [int(seed) for seed in found if seed.isdigit()]
    return sorted(units | set(select(study, Wanted(seeds=seeds)) if seeds else units))


def _lines(
    study: Study,
    rows: Sequence[Row],
    results: Mapping[Unit, Result],
    figures: Sequence[Path],
    page: Path,
) -> Iterator[str]:
    yield "# RESULTS: when progressive training pays"
    yield ""
    yield verdict(rows)
    yield ""
    if study.raw.get("advice"):
        yield from (str(study.raw["advice"]).rstrip(), "")
    yield (
        "Made by `python benchmarks/study/run.py` from `benchmarks/study/study.yaml`; edit those, "
        "not this page. Every number is a mean over seeds with the lowest and the highest. Hours "
        "are reference-system time of training, alignment and lists "
        "([scale.md](../docs/scale.md)), decoding left out. A budget is "
        "a share of the recipe's epochs. No language model."
    )
    yield ""
    if figures:
        yield f"![WER over reference time]({os.path.relpath(figures[0], page.parent)})"
        yield ""
    yield from _table(rows)
    yield from missing(study, rows)
    yield from significance(study, rows)
    yield from changes(rows)
    yield from step_cost_section(study)
    yield from _failures(rows)
    yield from _trials(study)
    yield from _provenance(rows, results)


def verdict(rows: Sequence[Row]) -> str:
    """The first paragraph: at which places the one pipeline's dev WER is below the other's."""
    by_place = {(row.place, row.unit.arm): row for row in rows if row.results}
    places = [place for place, arm in by_place if arm == CLAIM and (place, BASELINE) in by_place]
    if not places:
        return (
            f"**Nothing is known yet**: no place has a finished training of both {CLAIM} and "
            f"{BASELINE}."
        )
    ahead, apart, behind, said = [], [], [], []
    for place in places:
        ours, theirs = (by_place[place, arm].wer("dev") for arm in (CLAIM, BASELINE))
        seeds = min(len(by_place[place, arm].results) for arm in (CLAIM, BASELINE))
        old = any(by_place[place, arm].old for arm in (CLAIM, BASELINE))
        name = _place(place) + _marked(old)
        said.append(f"{name}: {ours} against {theirs}")
        if ours.mean < theirs.mean:
            ahead.append(name)
            if ours.high < theirs.low and seeds >= 3:
                apart.append(name)
        else:
            behind.append(name)
    text = (
        f"**{CLAIM} against {BASELINE}, mean dev WER with configurations made for equal time "
        f"(hours are below): ahead in {len(ahead)} of {len(places)} places**"
    )
    text += f" ({'; '.join(said)}). "
    text += (
        f"With three seeds or more and ranges that do not overlap: {', '.join(apart)}. "
        if apart
        else "Nowhere do the ranges of three seeds stand apart in its favour. "
    )
    text += f"Behind or equal: {', '.join(behind)}." if behind else "Nowhere is it behind."
    return text


def _marked(old: object) -> str:
    return " (old)" if old else ""


def _place(place: tuple[str, str, str, float]) -> str:
    corpus, labels, size, budget = place
    return f"{corpus} {labels} {size}, budget {budget:g}"


def _table(rows: Sequence[Row]) -> Iterator[str]:
    yield "## All arms"
    yield ""
    yield (
        "| corpus, labels, size | budget | arm | seeds | hours | dev WER | test WER | dev CER "
        "| test CER |"
    )
    yield "| --- | --- | --- | --- | --- | --- | --- | --- | --- |"
    for row in sorted(rows, key=lambda row: (row.place, _rank(row.unit.arm))):
        if not row.results or (row.unit.arm not in MAIN):
            continue
        yield f"| {' '.join(row.place[:3])} | {row.unit.budget:g} | {_cells(row)} |"
    yield ""


def missing(study: Study, rows: Sequence[Row]) -> Iterator[str]:
    """What the grid asks for and nobody has trained."""
    there = {(row.place, row.unit.arm) for row in rows if row.results}
    left: dict[str, list[str]] = {}
    for unit in dict.fromkeys(replace(unit, seed=0) for unit in select(study, Wanted())):
        if (unit.place, unit.arm) not in there:
            left.setdefault(_place(unit.place), []).append(unit.arm.replace("_", " "))
    if left:
        told = "; ".join(f"{place}: {', '.join(arms)}" for place, arms in left.items())
        yield f"Asked for by the study and not trained yet: {told}."
        yield ""


def _cells(row: Row) -> str:
    hours = "not measured" if row.hours is None else f"{row.hours.mean:.2f}"
    seeds = ", ".join(str(seed) for seed in sorted(row.results))
    rates = [str(rate(part)) for rate in (row.wer, row.cer) for part in PARTS]
    return " | ".join([_arm(row), seeds, hours, *rates])


def _arm(row: Row) -> str:
    return row.unit.arm.replace("_", " ") + _marked(row.old)


def _rank(arm: str) -> tuple[int, str]:
    return (MAIN.index(arm) if arm in MAIN else len(MAIN)), arm


def significance(study: Study, rows: Sequence[Row]) -> Iterator[str]:
    """The table of differences, with what a bootstrap says of them."""
    lines = []
    for row in rows:
        base = _find(rows, row, BASELINE)
        if base is None or row.unit.arm == BASELINE or row.unit.arm not in MAIN:
            continue
        for part in PARTS:
            found = difference(base, row, part)
            if found is None:
                continue
            unit = study.corpus(row.unit.corpus)["unit"]
            word = "yes" if found.significant else "no"
            if found.units < ENOUGH:
                word = f"too few {unit}"
            elif len(common_seeds(base, row)) == 1:
                word = "one seed"
            lines.append(
                f"| {_place(row.place)}{_marked(base.old)} | {_arm(row)} | {part} | "
                f"{found.difference:+.2f} | {found.low:+.2f} to {found.high:+.2f} | {word} | "
                f"{found.units} {unit} |"
            )
    if lines:
        yield f"## Differences to {BASELINE}"
        yield ""
        yield (
            "Word errors of all common seeds added up, then a paired bootstrap (10,000 draws) "
            "of whole speakers or sessions; below 0 is better. It says how far other speakers "
            "would move these models' difference, not how far other seeds would: their ranges "
            "are above."
        )
        yield ""
        yield "| place | arm | set | WER | 95 % interval | significant | drawn |"
        yield "| --- | --- | --- | --- | --- | --- | --- |"
        yield from lines
        yield ""


def _find(rows: Sequence[Row], row: Row, arm: str) -> Row | None:
    """The row of another arm at the same place, if it has results."""
    for other in rows:
        if other.place == row.place and other.unit.arm == arm and other.results:
            return other
    return None


def changes(rows: Sequence[Row]) -> Iterator[str]:
    """The table of arms that change the pipeline, also where it itself was not trained."""
    lines = []
    for row in rows:
        if row.unit.arm in MAIN or not row.results:
            continue
        place = f"{' '.join(row.place[:3])}, {row.unit.budget:g}"
        lines.append(f"| {place} | {_cells(row)} | {_moved(row, _find(rows, row, CLAIM))} |")
    if lines:
        yield f"## Changes to {CLAIM}"
        yield ""
        yield (
            "| place | arm | seeds | hours | dev WER | test WER | dev CER | test CER "
            f"| dev WER minus {CLAIM}'s, same seeds | test |"
        )
        yield "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |"
        yield from lines
        yield ""


def _moved(row: Row, base: Row | None) -> str:
    """Mean differences of the WER of common seeds, dev and test; dashes where there are none."""
    common = [] if base is None else common_seeds(row, base)
    if base is None or not common:
        return "- | -"
    means = []
    for part in PARTS:
        pairs = [[r.results[s].wer(r.stages[s], part) for r in (row, base)] for s in common]
        means.append(sum(own - other for own, other in pairs) / len(common))
    return f"{means[0]:+.1f} | {means[1]:+.1f}"


def _failures(rows: Sequence[Row]) -> Iterator[str]:
    lines = [
        f"- {_place(row.place)}, {row.unit.arm}, seed {seed}: {failure}"
        for row in rows
        for seed, failure in row.failures.items()
    ]
    if lines:
        yield "## Trainings that failed"
        yield ""
        yield from lines
        yield ""


def _trials(study: Study) -> Iterator[str]:
    trials = study.raw.get("trials") or []
    if trials:
        yield "## Trials before: how the configurations were chosen, on dev"
        yield ""
        yield "| arm | what | dev WER |"
        yield "| --- | --- | --- |"
        for trial in trials:
            yield f"| {trial['arm']} | {trial['what']} | {trial['dev']} |"
        yield ""


def _provenance(rows: Sequence[Row], results: Mapping[Unit, Result]) -> Iterator[str]:
    if not results:
        return
    yield "## Where the numbers are from"
    yield ""
    commits: dict[str, list[str]] = {}
    for result in results.values():
        commits.setdefault(result.commit, []).append(result.finished[:10])
    for commit, days in sorted(commits.items()):
        yield f"- {len(days)} trainings at {commit}, {min(days)} to {max(days)}"
    if len({result.code for result in results.values()}) > 1:
        yield (
            "- training code of different hashes counts as the same where an epoch of each stage "
            "of AN4's pipeline gave equal weights to the bit (`benchmarks/study/same_code.json`)"
        )
    old = sorted({why for row in rows for why in row.old.values()})
    if old:
        yield f"- **old**: not of today's training code or configuration ({'; '.join(old)})"
    yield ""
