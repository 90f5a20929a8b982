"""The pipeline that made a model, as a figure: its steps, what they cost and what they reached."""

from __future__ import annotations

from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from espnet_plugin.publishing.model_card_facts import Facts, Score, Step
from espnet_plugin.report.style import ACCENT, FAINT, INK, TRAIN, VALID, save
from espnet_plugin.report.training_table import clock

_WIDTH, _GAP, _HEIGHT = 2.0, 0.55, 1.5  # of a box, in inches


def pipeline_figure(facts: Facts) -> Figure | None:
    """Draw a box per step, with arrows between them; None for a model without a pipeline."""
    if not facts.steps:
        return None
    total = len(facts.steps) * (_WIDTH + _GAP) - _GAP
    figure = Figure(figsize=(total + 0.3, _HEIGHT + 0.3))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_xlim(-0.15, total + 0.15)
    axes.set_ylim(-0.15, _HEIGHT + 0.15)
    axes.axis("off")
    for number, step in enumerate(facts.steps):
        left = number * (_WIDTH + _GAP)
        _box(axes, left, step, _reached(facts, step), published=step.name == facts.stage)
        if number:
            axes.annotate(
                "",
                (left - 0.04, _HEIGHT / 2),
                (left - _GAP + 0.04, _HEIGHT / 2),
                arrowprops={"arrowstyle": "-|>", "color": INK, "lw": 1.2},
            )
    return figure


def write_figure(facts: Facts, path: Path) -> bool:
    """Write the figure as PNG; False if there is nothing to draw."""
    figure = pipeline_figure(facts)
    if figure is None:
        return False
    save(figure, path)
    return True


def _box(axes, left: float, step: Step, reached: list[Score], published: bool) -> None:  # type: ignore[no-untyped-def]
    edge = ACCENT if published else (VALID if step.trains else FAINT)
    patch = FancyBboxPatch(
        (left, 0),
        _WIDTH,
        _HEIGHT,
        boxstyle="round,pad=0,rounding_size=0.12",
        facecolor="white" if step.trains else "#f7f7f7",
        edgecolor=edge,
        linewidth=2.2 if published else 1.3,
    )
    axes.add_patch(patch)
    middle = left + _WIDTH / 2
    epochs = f"{step.epochs} epoch{'' if step.epochs == '1' else 's'}" if step.epochs else ""
    said = [epochs, clock(step.seconds)]
    lines = [", ".join(filter(None, said))]
    lines += [f"{row.data_set} WER {row.error:.1f} %" for row in reached[:3]]
    axes.text(middle, _HEIGHT - 0.3, step.name, ha="center", va="center", color=INK,
              fontsize=13, fontweight="bold" if step.trains else "normal")  # fmt: skip
    axes.text(middle, _HEIGHT - 0.6, "\n".join(lines), ha="center", va="top", color=INK,
              fontsize=9.5, linespacing=1.35)  # fmt: skip
    if published:
        axes.plot([left + 0.2, left + _WIDTH - 0.2], [0.14, 0.14], color=ACCENT, lw=3)
    elif step.trains:
        axes.plot([left + 0.2, left + _WIDTH - 0.2], [0.14, 0.14], color=TRAIN, lw=3)


def _reached(facts: Facts, step: Step) -> list[Score]:
    """Rows of the first decoding of a train stage."""
    rows = facts.of_stage("WER", step.name) if step.trains else []
    return [row for row in rows if row.decoding == rows[0].decoding]
