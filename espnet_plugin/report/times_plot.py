"""Wall-clock of the steps of a pipeline."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure

from espnet_plugin.report.experiment import StepTime
from espnet_plugin.report.style import INK, TRAIN, VALID, tidy
from espnet_plugin.report.training_table import clock


def times_plot(steps: Sequence[StepTime]) -> Figure | None:
    """Draw a bar for each step that took any time; None if there is none."""
    steps = [step for step in steps if step.seconds > 0]
    if not steps:
        return None
    figure = Figure(figsize=(8, 0.42 * len(steps) + 0.7), layout="constrained")
    axes = figure.subplots()
    colours = [VALID if step.name.startswith("train:") else TRAIN for step in steps]
    minutes = [step.seconds / 60 for step in steps]
    bars = axes.barh([step.name for step in steps], minutes, color=colours, height=0.62)
    running = {"done": ""}
    said = [clock(s.seconds) + running.get(s.status, f" ({s.status})") for s in steps]
    axes.bar_label(bars, said, padding=4, fontsize=9, color=INK)
    axes.invert_yaxis()
    tidy(axes)
    axes.grid(False, axis="y")
    axes.margins(x=0.16)
    axes.set_xlabel("minutes")
    return figure
