"""Word error rates over reference time, a panel for every corpus, kind of labels and size."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from benchmarks.study.summary import PARTS, Row
from espnet_plugin.report.style import save, tidy

_COLOURS = ("#1f5fa8", "#d1642a", "#3b8f5a", "#8a5aa8", "#777777", "#b59a1d")
_MARKS = {"dev": "-", "test": ":"}


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
                    hours, means, yerr=[below, above], color=colour, marker="o", markersize=4,
                    linestyle=_MARKS[part], linewidth=1.3, capsize=3, label=name,
                )  # fmt: skip
        axes.set_title(" ".join(place), fontsize=10)
        axes.set_xlabel("reference-system hours of training")
        axes.set_ylabel("WER in % (solid: dev, dotted: test)")
        axes.set_ylim(bottom=0)
        axes.legend(fontsize=8, frameon=False)
        tidy(axes)
    target.parent.mkdir(parents=True, exist_ok=True)
    svg = target.with_suffix(".svg")
    partial = svg.with_suffix(".partial.svg")
    figure.savefig(partial, format="svg", metadata={"Date": None})
    os.replace(partial, svg)
    return [save(figure, target.with_suffix(".png")), svg]
