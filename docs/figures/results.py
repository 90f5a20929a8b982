"""Draws results.svg from results.yaml: python docs/figures/results.py

A dot is a seed, a line goes through the means; the same numbers give the same file.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib
import yaml

matplotlib.use("svg")
import matplotlib.pyplot as plt

HERE = Path(__file__).parent
COLOURS = ["#0f766e", "#1d4ed8", "#b45309"]
SETS = {"dev": "dev set", "test": "test set"}


def read_results() -> dict[str, Any]:
    """The numbers, with the command, seeds, machine and date of each."""
    results: dict[str, Any] = yaml.safe_load((HERE / "results.yaml").read_text(encoding="utf-8"))
    return results


def draw(results: dict[str, Any], path: Path) -> None:
    """Word error rates over the train stages, dev and test side by side."""
    plt.rcParams.update({"svg.hashsalt": "results", "svg.fonttype": "none", "font.size": 9})
    figure, axes = plt.subplots(1, 2, figsize=(8.2, 3.1), sharey=True, layout="constrained")
    stages, baseline = results["stages"], results["baseline"]
    for axis, (name, title) in zip(axes, SETS.items(), strict=True):
        for colour, run in zip(COLOURS, results["runs"], strict=False):
            values = run[name]  # [stages][seeds]
            means = [sum(seeds) / len(seeds) for seeds in values]
            axis.plot(range(len(stages)), means, color=colour, label=run["name"])
            for place, seeds in enumerate(values):
                axis.plot([place] * len(seeds), seeds, "o", color=colour, markersize=4)
        last = len(stages) - 1
        seeds = baseline[name]
        axis.plot([last] * len(seeds), seeds, "x", color="black", label=baseline["name"])
        axis.set_xticks(range(len(stages)), [f"after\n{stage}" for stage in stages])
        axis.set_title(title)
        axis.set_ylim(0, 28)
        axis.grid(axis="y", color="#e5e7eb")
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel("word error rate, %")
    axes[1].legend(frameon=False)
    figure.savefig(path, metadata={"Date": None, "Creator": None})
    plt.close(figure)


if __name__ == "__main__":
    draw(read_results(), HERE / "results.svg")
