"""The page of a screening: many arms, each against one base and its own control.

Its primary measure is the character error rate of dev and test together. What a difference is worth
follows from how far seeds of one arm scatter:

    resolution = 1.96 s sqrt(1 / n + 1 / m),  s^2 the mean variance within arms, n and m seeds

which an effect has to pass to count as one. Seeds of two arms are not taken for pairs: they begin
alike, and part after a few updates.
"""

from __future__ import annotations

import os
import statistics
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.study.figure import draw_differences
from benchmarks.study.summary import PARTS, Row, Spread, difference, spread
from benchmarks.study.units import ROOT, Study

NOT_YET = "not yet"


def pooled_cer(row: Row, seed: int) -> float:
    """Character error rate of dev and test together, in per cent."""
    parts = row.results[seed].characters[row.stages[seed]]
    errors, tokens = (sum(parts[part][k] for part in PARTS) for k in (0, 1))
    return 100 * errors / max(tokens, 1)


def differences(base: Row, row: Row) -> list[float]:
    """CER of each seed minus the base's mean."""
    mean = statistics.fmean(pooled_cer(base, seed) for seed in base.results)
    return [pooled_cer(row, seed) - mean for seed in row.results]


def deviation(rows: Sequence[Row]) -> float | None:
    """Standard deviation of the CER within arms; None where no arm has two seeds."""
    squares, freedom = 0.0, 0
    for row in rows:
        if len(row.results) > 1:
            rates = [pooled_cer(row, seed) for seed in row.results]
            squares += statistics.variance(rates) * (len(rates) - 1)
            freedom += len(rates) - 1
    return (squares / freedom) ** 0.5 if freedom else None


def seen(found: Sequence[float], scatter: float | None, seeds: int) -> str:
    """Whether a difference passes the resolution.

    Args:
        found: of each seed of an arm.
        seeds: of the base.
    """
    if scatter is None:
        return "resolution unknown"
    resolution = 1.96 * scatter * (1 / len(found) + 1 / seeds) ** 0.5
    mean = statistics.fmean(found)
    if abs(mean) <= resolution:
        return f"none seen (resolution {resolution:.1f})"
    return f"{'better' if mean < 0 else 'worse'} (resolution {resolution:.1f})"


def lines(study: Study, rows: Sequence[Row], page: Path) -> Iterator[str]:
    """The page up to its failures, with its picture.

    Raises:
        ValueError: nothing has been trained.
    """
    options = study.raw["screening"]
    arms: Mapping[str, Mapping[str, Any]] = options["arms"]
    places = {row.place: {r.unit.arm: r for r in rows if r.place == row.place} for row in rows}
    if not rows:
        raise ValueError(f"{study.path}: nothing has been trained, so there is nothing to write")
    scatter = deviation([row for row in rows if row.results])
    yield f"# RESULTS: {options['title']}"
    yield ""
    yield _verdict(places, arms, options["base"], scatter)
    yield ""
    yield (
        f"Made by `python benchmarks/study/run.py --config {study.path.name} --page`; edit that "
        "study, not this page. CER and WER in per cent, without a language model; CER is that of "
        "dev and test together. Hours are reference-system time of training, alignment and lists "
        "([scale.md](../docs/scale.md)), those of a teacher or of a stage before included, over "
        "the base's. Steps are a training step's processor time over the base's, in interleaved "
        "runs (`benchmarks/accelerators.py steps`). Differences are those of means over all seeds "
        "of either side; those of WER have a 95 % interval by a paired bootstrap of whole "
        "speakers, which knows nothing of how seeds scatter."
    )
    yield ""
    for place, found in sorted(places.items()):
        base = found.get(options["base"])
        yield f"## {' '.join(place[:3])}, {place[3]:g} of the recipe's epochs"
        yield ""
        yield from _table(found, arms, base, scatter)
        yield from _controls(found, arms, scatter)
        if base is not None and base.results:
            moved = {
                name: differences(base, row)
                for name, row in found.items()
                if row is not base and row.results
            }
            target = ROOT / f"{study.raw['figure']}_{100 * place[3]:g}"
            for path in draw_differences(moved, scatter, len(base.results), target)[:1]:
                yield f"![CER minus the base's]({os.path.relpath(path, page.parent)})"
                yield ""


def _verdict(
    places: Mapping[Any, Mapping[str, Row]],
    arms: Mapping[str, Any],
    base: str,
    scatter: float | None,
) -> str:
    told: dict[str, list[str]] = {}
    trained = set()
    for found in places.values():
        trained |= {name for name, row in found.items() if row.results}
        for name, row in found.items():
            if name != base and row.results and base in found and found[base].results:
                apart = differences(found[base], row)
                what = seen(apart, scatter, len(found[base].results)).partition(" (")[0]
                told.setdefault(what, []).append(name.replace("_", " "))
    text = f"**{len(trained)} of {len(arms)} arms are trained.**"
    if scatter is not None:
        text += f" CER scatters by {scatter:.2f} between seeds of an arm."
    for what in sorted(told):
        text += f" {what.capitalize()}: {', '.join(told[what])}."
    return text


def _table(
    found: Mapping[str, Row], arms: Mapping[str, Any], base: Row | None, scatter: float | None
) -> Iterator[str]:
    cells = "arm, what, seeds, hours, step, CER, minus the base's, effect, dev WER, test WER"
    yield f"| {cells.replace(', ', ' | ')} | WER minus the base's |"
    yield "| --- " * 11 + "|"
    for name, about in arms.items():
        row, title = found.get(name), f"| {name.replace('_', ' ')} | {about['what']}"
        step = f"{about['step']:.2f}" if "step" in about else ""
        if row is None or not row.results:
            yield f"{title} | {'failed' if row else NOT_YET} | | {step} | | | | | | |"
            continue
        if row.old:
            title = title.replace(" |", " (old) |", 1)
        seeds = ", ".join(str(seed) for seed in sorted(row.results))
        cer = spread(pooled_cer(row, seed) for seed in row.results)
        moved = ["", "", ""]
        if base is not None and base is not row and base.results:
            moved = _moved(base, row, scatter)
        rates = " | ".join(str(row.wer(part)) for part in PARTS)
        hours = _hours(base, row)
        yield (
            f"{title} | {seeds} | {hours} | {step} | {_two(cer)} | {moved[0]} | {moved[1]} "
            f"| {rates} | {moved[2]} |"
        )
    yield ""


def _moved(base: Row, row: Row, scatter: float | None) -> list[str]:
    """CER minus the base's, whether that is an effect, and the same of WER with its interval."""
    found = differences(base, row)
    words = difference(base, row, *PARTS, paired=False)
    assert words is not None  # both have seeds
    wer = f"{words.difference:+.1f} ({words.low:+.1f} to {words.high:+.1f})"
    return [f"{statistics.fmean(found):+.2f}", seen(found, scatter, len(base.results)), wer]


def _hours(base: Row | None, row: Row) -> str:
    if row.hours is None or base is None or not base.results or base.hours is None:
        return "not measured"
    return f"{row.hours.mean / base.hours.mean:.2f}"


def _two(value: Spread) -> str:
    span = f" ({value.low:.2f} to {value.high:.2f})" if value.high > value.low else ""
    return f"{value.mean:.2f}{span}"


def _controls(
    found: Mapping[str, Row], arms: Mapping[str, Any], scatter: float | None
) -> Iterator[str]:
    pairs = [(name, other) for name, about in arms.items() for other in about["control"]]
    if not pairs:
        return
    yield "Against its control, which has the cheaper part of an arm alone:"
    yield ""
    cells = "arm, control, seeds of each, CER minus the control's, effect, WER minus the control's"
    yield f"| {cells.replace(', ', ' | ')} |"
    yield "| --- " * 6 + "|"
    for name, control in pairs:
        row, other = found.get(name), found.get(control)
        title = f"| {name.replace('_', ' ')} | {control.replace('_', ' ')}"
        if row is None or other is None or not (row.results and other.results):
            yield f"{title} | {NOT_YET} | | | |"
            continue
        seeds = f"{len(row.results)}, {len(other.results)}"
        moved = _moved(other, row, scatter)
        yield f"{title} | {seeds} | {' | '.join(moved)} |"
    yield ""
