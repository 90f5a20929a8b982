"""One look for all figures."""

from __future__ import annotations

from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

TRAIN, VALID, ACCENT, INK, FAINT = "#9db7d5", "#1f5fa8", "#d1642a", "#333333", "#d9d9d9"
BANDS = ("#ffffff", "#f3f5f8")  # behind one stage and the next

_DPI = 130


def tidy(axes: Axes) -> None:
    """Only the axes that carry numbers, and a faint grid."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(INK)
    axes.tick_params(colors=INK, labelsize=9)
    axes.grid(True, axis="y", color=FAINT, linewidth=0.6)
    axes.set_axisbelow(True)


def save(figure: Figure, path: Path) -> Path:
    """Write a PNG file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=_DPI, facecolor="white")
    return path
