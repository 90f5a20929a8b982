"""How long after a word's sound its labels come."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from espnet_plugin.report.style import INK, VALID, tidy

Lags = Sequence[tuple[float, float]]
_TITLES = ("first label after the word's beginning", "last label's end after the word's end")
_WIDEST = 1.0  # seconds; what is further away counts in the outermost bars


def lag_plot(lags: Lags) -> Figure | None:
    """Histograms of both lags [W, 2] in seconds; None if there are none."""
    if not lags:
        return None
    figure = Figure(figsize=(8, 2.6), layout="constrained")
    bins = np.linspace(-_WIDEST, _WIDEST, 51)
    values = np.clip(np.array(lags), -_WIDEST, _WIDEST)
    for axes, title, column in zip(figure.subplots(1, 2), _TITLES, values.T, strict=True):
        axes.hist(1000 * column, 1000 * bins, color=VALID)
        axes.axvline(0, color=INK, linewidth=0.8)
        axes.set_title(title, fontsize=10, color=INK)
        axes.set_xlabel("ms")
        tidy(axes)
    return figure


def lag_summary(lags: Lags) -> str:
    """Both medians, and how wide the middle half is, in words."""
    low, middle, high = 1000 * np.quantile(np.array(lags), [0.25, 0.5, 0.75], axis=0)
    parts = [
        f"{name} {middle[n]:+.0f} ms (middle half {low[n]:+.0f} to {high[n]:+.0f})"
        for n, name in enumerate(("first label", "end of the last"))
    ]
    return f"Medians over {len(lags)} words: {', '.join(parts)}."
