"""Everything the report tells about a pipeline, read from its folder; finished or still running."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from espnet_plugin.data.decode_files import BOUNDARY_FOLDER, LAGS
from espnet_plugin.data.kaldi_files import read_integers, read_table
from espnet_plugin.pipeline.state.state import PipelineState
from espnet_plugin.report.epoch_stats import EpochStats, read_epochs

_STAGES = ("align", "viterbi", "full_sum", "mbr")  # where no pipeline.json says which there are


@dataclass(frozen=True)
class Stage:
    """One train stage.

    Attributes:
        config: its ESPnet configuration; empty before ESPnet has written it.
        epochs: finished epochs.
    """

    name: str
    config: Mapping[str, Any]
    epochs: tuple[EpochStats, ...]


@dataclass(frozen=True)
class StepTime:
    """Wall-clock of one step of the plan, as far as it has come."""

    name: str
    status: str
    seconds: float


@dataclass(frozen=True)
class Alignment:
    """The alignment that the viterbi stage was trained on.

    Attributes:
        labels: utterance -> its entries (`espnet_plugin.search.align.entries`).
        scores: utterance -> log score per frame, where known.
        figures: of quality.json.
        tokens: names of the labels.
    """

    labels: Mapping[str, list[int]]
    scores: Mapping[str, float]
    figures: Mapping[str, Any]
    tokens: tuple[str, ...]


@dataclass(frozen=True)
class Experiment:
    """What there is of a pipeline.

    Attributes:
        lists: figures of each folder of N-best lists.
        lags: seconds from a word's beginning and end to those of its labels, of every word.
    """

    folder: Path
    stages: tuple[Stage, ...]
    steps: tuple[StepTime, ...]
    alignment: Alignment | None
    results: str | None
    lists: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    lags: tuple[tuple[float, float], ...] = ()


def read_experiment(folder: Path) -> Experiment:
    """Read the folder of a pipeline.

    Raises:
        ValueError: there is no such folder, nothing in it, or a file of it is malformed.
    """
    if not folder.is_dir():
        raise ValueError(f"{folder}: no such folder; give that of a pipeline, <expdir>/<tag>")
    state = PipelineState.load(folder / "pipeline.json")
    names = [name for name in (state.plan or state.steps) if name.startswith("train:")]
    folders = [state.step(name).folder or name.removeprefix("train:") for name in names]
    stages = tuple(_stage(folder / name) for name in folders or _STAGES)
    begun = tuple(stage for stage in stages if stage.epochs or stage.config)
    steps = tuple(
        StepTime(name, state.steps[name].status, state.steps[name].seconds)
        for name in (state.plan or state.steps)
        if name in state.steps
    )
    if not begun and not steps:
        raise ValueError(f"{folder}: no train stage in it; give the folder of a pipeline")
    results = folder / "RESULTS.md"
    return Experiment(
        folder=folder,
        stages=begun,
        steps=steps,
        alignment=_alignment(folder / "alignment", begun),
        results=results.read_text(encoding="utf-8") if results.is_file() else None,
        lists={
            path.parent.name: json.loads(path.read_text(encoding="utf-8"))
            for path in sorted(folder.glob("nbest*/quality.json"))
            if ".stale." not in path.parent.name
        },
        lags=_lags(folder / BOUNDARY_FOLDER / LAGS),
    )


def _stage(folder: Path) -> Stage:
    path = folder / "config.yaml"
    config = yaml.safe_load(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return Stage(folder.name, config or {}, tuple(read_epochs(folder)))


def _alignment(folder: Path, stages: tuple[Stage, ...]) -> Alignment | None:
    path, scores = folder / "alignment", folder / "score"
    if not path.is_file() or not path.stat().st_size:
        return None
    tokens = next((stage.config["token_list"] for stage in stages if stage.config), ())
    figures = folder / "quality.json"
    try:
        return Alignment(
            labels=read_integers(path),
            scores=_numbers(read_table(scores)) if scores.is_file() else {},
            figures=json.loads(figures.read_text(encoding="utf-8")) if figures.is_file() else {},
            tokens=tuple(str(token) for token in tokens),
        )
    except ValueError as error:  # a job may be writing it right now
        logging.warning("the report leaves out the alignment: %s", error)
        return None


def _lags(path: Path) -> tuple[tuple[float, float], ...]:
    if not path.is_file():
        return ()
    rows = [[float(v) for v in line.split()] for line in read_table(path).values()]
    return tuple(pair for row in rows for pair in zip(row[::2], row[1::2], strict=True))


def _numbers(table: Mapping[str, str]) -> dict[str, float]:
    return {key: float(value.split()[0]) for key, value in table.items() if value}
