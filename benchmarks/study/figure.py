"""Word error rates over reference time, a panel for every corpus, kind of labels and size."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.study.summary import PARTS, Row
from espnet_plugin.report.style import save, tidy

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_COLOURS = ("#1f5fa8", "#d1642a", "#3b8f5a", "#8a5aa8", "#777777", "#b59a1d")
_LINES = {"dev": "-", "test": ":"}
_MARKS = {"dev": "o", "test": "^"}


def draw(rows: Sequence[Row], arms: Sequence[str], target: Path) -> list[Path]:
    """Draw the arms' means over budgets, with bars from the best seed to the worst.

    Args:
        arms: that are drawn, in the order of their colours.
        target: without suffix; .png and .svg are written.

    Returns:
        The files; none where no row has a reference time.
    """
    from matplotlib.figure import Figure

    panels: dict[tuple[str, str, str], list[Row]] = {}
    for row in rows:
        if row.results and row.hours is not None and row.unit.arm in arms:
            panels.setdefault(row.place[:3], []).append(row)
    if not panels:
        return []
    figure = Figure(figsize=(5.2 * len(panels), 4.2), layout="constrained")
    grid = figure.subplots(1, len(panels), squeeze=False)[0]
    for axes, (place, found) in zip(grid, panels.items(), strict=True):
        for number, arm in enumerate(arms):
            own = sorted((r for r in found if r.unit.arm == arm), key=lambda r: r.unit.budget)
            if not own:
                continue
            colour = _COLOURS[number % len(_COLOURS)]
            hours = [row.hours.mean for row in own if row.hours is not None]
            for part in PARTS:
                rates = [row.wer(part) for row in own]
                means = [rate.mean for rate in rates]
                below = [rate.mean - rate.low for rate in rates]
                above = [rate.high - rate.mean for rate in rates]
                name = arm.replace("_", " ") if part == "dev" else None
                axes.errorbar(
                    hours, means, yerr=[below, above], color=colour, marker=_MARKS[part],
                    markersize=4, linestyle=_LINES[part], linewidth=1.3, capsize=3, label=name,
                )  # fmt: skip
        axes.set_title(" ".join(place), fontsize=10)
        axes.set_xlabel("reference-system hours of training")
        axes.set_ylabel("WER in % (discs: dev, triangles: test)")
        axes.set_ylim(bottom=0)
        axes.legend(fontsize=8, frameon=False)
        tidy(axes)
    return _saved(figure, target)


def draw_differences(
    moved: Mapping[str, Sequence[float]], scatter: float | None, seeds: int, target: Path
) -> list[Path]:
    """A line for every arm: a point for each seed's difference to the base, best first.

    Args:
        moved: arm -> differences; arms without one are left out.
        scatter: standard deviation between seeds, drawn as a band of its resolution for one seed.
        seeds: of the base.
        target: without suffix; .png and .svg are written.

    Returns:
        The files; none without a difference.
    """
    from matplotlib.figure import Figure

    known = {name: values for name, values in moved.items() if values}
    if not known:
        return []
    order = sorted(known, key=lambda name: -sum(known[name]) / len(known[name]))
    figure = Figure(figsize=(6.4, 1.2 + 0.24 * len(order)), layout="constrained")
    axes = figure.subplots()
    if scatter is not None:
        width = 1.96 * scatter * (1 + 1 / seeds) ** 0.5
        axes.axvspan(-width, width, color="#dddddd", label="resolution of one seed")
        axes.legend(fontsize=8, frameon=False)
    axes.axvline(0, color="#777777", linewidth=0.8)
    for place, name in enumerate(order):
        axes.plot(known[name], [place] * len(known[name]), "o", color=_COLOURS[0], markersize=4)
    axes.set_yticks(range(len(order)), [name.replace("_", " ") for name in order], fontsize=8)
    axes.set_xlabel("CER of dev and test minus the base's, in % (left is better)")
    tidy(axes)
    return _saved(figure, target)


def _saved(figure: Figure, target: Path) -> list[Path]:
    """Both files of a figure."""
    from matplotlib import rc_context

    target.parent.mkdir(parents=True, exist_ok=True)
    svg = target.with_suffix(".svg")
    partial = svg.with_suffix(".partial.svg")
    with rc_context({"svg.hashsalt": target.name}):  # else its names are drawn at random
        figure.savefig(partial, format="svg", metadata={"Date": None})
    os.replace(partial, svg)
    return [save(figure, target.with_suffix(".png")), svg]
