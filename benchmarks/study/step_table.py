"""The table of step_cost.py, and what its numbers say of sizes that were not measured.

A step's cost is taken as a + b x, where x counts the outputs of the joint network: B T V for
viterbi (its path) and for the encoder's output layer (align); for full_sum, and for every
hypothesis of mbr, B (T - S + 1) (S + 1) V, since only so many cells lie on a path of the monotonic
topology: once S is above T / 2, more labels leave fewer. T is T' / 4. a and b are fitted to the
measurements of a model by least squares; the fit's largest error stands beside what it predicts.
For other lengths, a is taken to grow with the frames, which is too little for attention over very
long utterances.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.study.units import Study

FILE = Path(__file__).parent / "step_cost.json"
_SUBSAMPLING = 4  # feature frames of an encoder frame, in all configurations here
_STAGES = ("align", "viterbi", "full_sum", "mbr")


def read_costs(path: Path = FILE) -> list[dict[str, Any]]:
    """Measurements in the order of models and sizes; none without the file."""
    if not path.is_file():
        return []
    entries: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
    return sorted(entries, key=lambda e: (e["config"], e["vocabulary"], e["labels"]))


def outputs(stage: str, entry: Mapping[str, Any]) -> float:
    """Rows of the vocabulary's size that a stage computes, times the vocabulary."""
    steps, labels = entry["frames"] // _SUBSAMPLING, entry["labels"]
    cells = steps
    if stage in ("full_sum", "mbr"):
        cells = (steps - labels + 1) * (labels + 1)
    return float(entry["utterances"] * cells * entry["vocabulary"])


def fit(stage: str, entries: Sequence[Mapping[str, Any]]) -> tuple[float, float, float]:
    """a and b of a stage's seconds, b per output, and the largest relative error of the fit.

    Raises:
        ValueError: fewer than two sizes were measured.
    """
    x = np.array([outputs(stage, entry) for entry in entries])
    y = np.array([entry["seconds"][stage] for entry in entries])
    if len(set(x.tolist())) < 2:
        raise ValueError(f"stage {stage}: a line needs two sizes, measured were {len(entries)}")
    design = np.stack([np.ones_like(x), x], 1) / y[:, None]  # relative errors count alike
    (a, b), *_ = np.linalg.lstsq(design, np.ones_like(y), rcond=None)
    return float(a), float(b), float(np.abs((a + b * x) / y - 1).max())


def predicted(stage: str, entries: Sequence[Mapping[str, Any]], size: Mapping[str, Any]) -> float:
    """Seconds of a step at another size; a goes with the number of feature frames."""
    a, b, _ = fit(stage, entries)
    measured = entries[0]["utterances"] * entries[0]["frames"]
    return a * size["utterances"] * size["frames"] / measured + b * outputs(stage, size)


def step_cost_section(study: Study, path: Path = FILE) -> Iterator[str]:
    """Lines of Markdown; none where nothing was measured."""
    entries = read_costs(path)
    if not entries:
        return
    yield "## What a step costs"
    yield ""
    yield (
        "Processor seconds of a full_sum step, and the other stages' as shares of it, interleaved "
        "in one process on one thread (`python benchmarks/study/step_cost.py`; front-end and "
        "augmentation left out, so each utterance once). `viterbi` of the paper's configuration "
        "goes over windows that overlap by half, so that the encoder works on each frame twice."
    )
    yield ""
    yield "| model of | B, T' | V | S | full_sum | align | viterbi | mbr | precision, date |"
    yield "| --- | --- | --- | --- | --- | --- | --- | --- | --- |"
    for entry in entries:
        yield _line(entry)
    yield ""
    for size in study.raw.get("extrapolate") or []:
        yield from _extrapolated(entries, size)


def _line(entry: Mapping[str, Any]) -> str:
    seconds = entry["seconds"]
    full = seconds["full_sum"]
    shares = [
        f"{seconds[s] / full:.2f}" if s in seconds else "" for s in ("align", "viterbi", "mbr")
    ]
    return (
        f"| `{entry['config']}` | {entry['utterances']}, {entry['frames']} | "
        f"{entry['vocabulary']} | {entry['labels']} | {full:.2f} s | {' | '.join(shares)} | "
        f"{entry['precision']}, {entry['date']} |"
    )


def _extrapolated(entries: Sequence[Mapping[str, Any]], size: Mapping[str, Any]) -> Iterator[str]:
    """A sentence on a size that was not measured, where a line can be fitted."""
    own = [
        entry
        for entry in entries
        if entry["config"] == size["config"]
        and entry["precision"] == size.get("precision", "float32")
    ]
    kinds = {(entry["utterances"], entry["frames"]) for entry in own}
    if len(own) < 3 or len(kinds) != 1:
        return
    ((count, frames),) = kinds
    at = {"utterances": count, "frames": frames, **size}
    stages = [stage for stage in _STAGES if all(stage in entry["seconds"] for entry in own)]
    seconds = {stage: predicted(stage, own, at) for stage in stages}
    error = max(fit(stage, own)[2] for stage in stages)
    shares = ", ".join(
        f"{stage} {seconds[stage] / seconds['full_sum']:.2f}"
        for stage in stages
        if stage != "full_sum"
    )
    yield (
        f"- {size['name']} (V {at['vocabulary']}, S {at['labels']}, T' {at['frames']}), by a line "
        f"through the {len(own)} measurements of `{size['config']}` (off by at most "
        f"{100 * error:.0f} % at any of them): full_sum "
        f"{seconds['full_sum']:.2f} s, {shares} of it."
    )
    yield ""
