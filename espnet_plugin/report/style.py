"""One look for all figures."""

from __future__ import annotations

import io
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from espnet_plugin.corpora.atomic import write_bytes_atomically

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
    image = io.BytesIO()
    figure.savefig(image, format="png", dpi=_DPI, facecolor="white")
    write_bytes_atomically(path, image.getvalue())
    return path
