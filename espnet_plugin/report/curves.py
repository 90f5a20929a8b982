"""Loss, error rates and learning rate per epoch, over all train stages."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from espnet_plugin.report.epoch_stats import EpochStats
from espnet_plugin.report.experiment import Stage
from espnet_plugin.report.style import ACCENT, BANDS, INK, TRAIN, VALID, tidy

Curve = tuple[list[float], list[float]]  # epochs, counted through all stages, and values

_SPAN = 50  # a range of more than this factor is drawn on a logarithmic axis


def training_curves(stages: Sequence[Stage]) -> Figure | None:
    """Draw three panels under each other; None before the first epoch of the first stage.

    A fourth one shows how strongly accelerators worked, where stages have them. The criteria of the
    stages differ, so the curves break at the borders between them.
    """
    stages = [stage for stage in stages if stage.epochs]
    if not stages:
        return None
    strengths = accelerator_settings(stages)
    heights = [1.2, 1.2, 0.8, *([0.8] if strengths else [])]
    figure = Figure(figsize=(10, 2.6 * sum(heights) + 0.1), layout="constrained")
    panels = list(figure.subplots(len(heights), 1, sharex=True, height_ratios=heights))
    loss, errors, rate = panels[:3]
    _draw(loss, stages, lambda e: e.train.get("loss"), TRAIN, "training")
    _draw(loss, stages, lambda e: e.valid.get("loss"), VALID, "dev")
    loss.set_ylabel("loss (each stage its own)")
    _draw(errors, stages, lambda e: e.valid.get("cer"), TRAIN, "dev label error rate")
    _draw(errors, stages, lambda e: e.valid.get("wer"), ACCENT, "dev WER")
    errors.set_ylabel("greedy error rate (%)")
    _draw(rate, stages, lambda e: e.train.get("optim0_lr0"), INK, "_nolegend_")
    rate.set_ylabel("learning rate")
    rate.ticklabel_format(axis="y", style="sci", scilimits=(-2, 3))
    rate.set_ylim(bottom=0)
    if strengths:
        _draw_strengths(panels[3], stages, strengths)
    panels[-1].xaxis.set_major_locator(MaxNLocator(integer=True))
    panels[-1].set_xlabel("epochs, all stages together")
    for axes in panels:
        tidy(axes)
        _show_stages(axes, stages)
    _name_stages(loss, stages)
    _logarithmic_if_wide(loss)
    errors.set_ylim(0, min(max(errors.get_ylim()[1], 5), 105))
    for axes in (loss, errors, *panels[3:]):
        axes.legend(fontsize=9, edgecolor="none", framealpha=0.8)
    return figure


def accelerator_settings(stages: Sequence[Stage]) -> list[str]:
    """Statistics that accelerators log of their settings, `<accelerator>_<name>`."""
    found = {
        key
        for stage in stages
        for name, options in (stage.config.get("accelerators") or {}).items()
        if options is not None
        for epoch in stage.epochs
        for key in epoch.train
        if key.startswith(f"{name}_")
    }
    return sorted(found)


def _draw_strengths(axes: Axes, stages: Sequence[Stage], names: Sequence[str]) -> None:
    for number, name in enumerate(names):

        def setting(epoch: EpochStats, name: str = name) -> float | None:
            return epoch.train.get(name)

        _draw(axes, stages, setting, f"C{number}", name)
    axes.set_ylabel("accelerators")
    axes.set_ylim(bottom=0)


def _spans(stages: Sequence[Stage]) -> Iterator[tuple[Stage, int, int]]:
    """Each stage with the epochs, counted through all stages, at which it begins and ends."""
    start = 0
    for stage in stages:
        end = start + max(epoch.epoch for epoch in stage.epochs)
        yield stage, start, end
        start = end


def _draw(
    axes: Axes,
    stages: Sequence[Stage],
    value: Callable[[EpochStats], float | None],
    colour: str,
    name: str,
) -> None:
    for stage, start, _ in _spans(stages):
        points = [(start + epoch.epoch, value(epoch)) for epoch in stage.epochs]
        drawn = [(x, y) for x, y in points if y is not None]
        if drawn:
            axes.plot(
                *zip(*drawn, strict=True), color=colour, marker="o", ms=2.4, lw=1.4, label=name
            )
            name = "_nolegend_"  # one entry for all stages


def _logarithmic_if_wide(axes: Axes) -> None:
    drawn = [float(y) for line in axes.lines for y in np.asarray(line.get_ydata())]
    if drawn and min(drawn) > 0 and max(drawn) > _SPAN * min(drawn):
        axes.set_yscale("log")


def _show_stages(axes: Axes, stages: Sequence[Stage]) -> None:
    """A band behind every second stage, and a line at each border."""
    spans = list(_spans(stages))
    axes.set_xlim(0.5, spans[-1][2] + 0.5)
    for n, (_, start, end) in enumerate(spans):
        axes.axvspan(start + 0.5, end + 0.5, color=BANDS[n % 2], zorder=0, lw=0)
        if start:
            # not in axes.lines, which hold the curves
            axes.vlines(
                start + 0.5,
                0,
                1,
                transform=axes.get_xaxis_transform(),
                color=INK,
                lw=0.8,
                ls=(0, (4, 3)),
            )


def _name_stages(axes: Axes, stages: Sequence[Stage]) -> None:
    """Write the stages' names above the panel."""
    spans = list(_spans(stages))
    total = spans[-1][2]
    for stage, start, end in spans:
        # a name too wide for its stage, at the right edge, is moved to the left
        narrow = end == total and start and end - start < 0.08 * total
        axes.annotate(
            stage.name,
            (end + 0.5 if narrow else (start + end + 1) / 2, 1.02),
            xycoords=axes.get_xaxis_transform(),
            ha="right" if narrow else "center",
            va="bottom",
            fontweight="bold",
            color=INK,
        )
