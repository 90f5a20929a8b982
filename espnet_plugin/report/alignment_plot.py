"""A few utterances of the alignment: which label on which encoder frame."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from espnet_plugin.report.experiment import Alignment
from espnet_plugin.report.style import FAINT, INK, VALID
from espnet_plugin.search.align.entries import entry_labels, frame_count, label_frames

_MAX_LABELS, _MAX_FRAMES = 40, 260  # what fits into a figure's width


def alignment_plot(alignment: Alignment, count: int = 4) -> Figure | None:
    """Draw some utterances; None if none fits."""
    chosen = choose(alignment, count)
    if not chosen:
        return None
    figure = Figure(figsize=(10, 1.35 * len(chosen) + 0.3), layout="constrained")
    for axes, utterance in zip(
        figure.subplots(len(chosen), 1, squeeze=False)[:, 0], chosen, strict=True
    ):
        _draw(axes, utterance, alignment)
    axes.set_xlabel("encoder frame")
    return figure


def choose(alignment: Alignment, count: int) -> list[str]:
    """Utterances of all qualities: from the best score per frame to the worst, evenly spaced."""
    fitting = [
        key
        for key, entries in alignment.labels.items()
        if 0 < len(entry_labels(entries)) <= _MAX_LABELS and frame_count(entries) <= _MAX_FRAMES
    ]
    # where scores are not known, by length
    ordered = sorted(
        fitting, key=lambda k: (-alignment.scores.get(k, 0.0), frame_count(alignment.labels[k]))
    )
    count = min(count, len(ordered))
    if count <= 1:
        return ordered[:count]
    return [ordered[round(n * (len(ordered) - 1) / (count - 1))] for n in range(count)]


def _draw(axes: Axes, utterance: str, alignment: Alignment) -> None:
    entries = alignment.labels[utterance]
    frames, length = label_frames(entries), frame_count(entries)
    axes.hlines(0, -0.5, length - 0.5, color=FAINT, lw=4)
    axes.vlines(frames, 0, 1, color=VALID, lw=1.5)
    names = [_name(label, alignment.tokens) for label in entry_labels(entries)]
    for frame, name, height in zip(frames, names, _heights(frames, names, length), strict=True):
        axes.vlines(frame, 1, 1 + height, color=FAINT, lw=0.8)
        axes.annotate(name, (frame, 1.08 + height), ha="center", fontsize=9, color=INK)
    axes.set_xlim(-1, length)
    axes.set_ylim(-0.15, 2.7)
    axes.set_yticks([])
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(labelsize=8, colors=INK)
    score = alignment.scores.get(utterance)
    said = f"{len(frames)} labels on {length} frames"
    said += "" if score is None else f", log score per frame {score:.3f}"
    axes.set_title(f"{utterance}: {said}", loc="left", fontsize=9, color=INK)


def _heights(frames: Sequence[int], names: Sequence[str], length: int) -> list[float]:
    """Lift a name above its neighbour where both would overlap."""
    heights: list[float] = []
    ends = [-1e9] * 3  # right end of the last name on each of three levels
    for frame, name in zip(frames, names, strict=True):
        half = 0.5 * length * (len(name) + 0.8) / 125  # a line holds about 125 characters
        level = next(
            (n for n, end in enumerate(ends) if frame - half >= end), ends.index(min(ends))
        )
        ends[level] = frame + half
        heights.append(0.55 * level)
    return heights


def _name(label: int, tokens: Sequence[str]) -> str:
    name = tokens[label] if label < len(tokens) else str(label)
    return "␣" if name == "<space>" else name
