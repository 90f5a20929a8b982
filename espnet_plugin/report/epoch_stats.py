"""Per-epoch statistics of a train stage, from what ESPnet's trainer leaves in its folder."""

from __future__ import annotations

import logging
import math
import re
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_RESULTS = re.compile(r"(\d+)epoch results: (.*)$")
_PHASE = re.compile(r"\[(train|valid)\] (.*?)(?=, \[\w+\] |$)")
_VALUE = re.compile(r"(\w+)=(-?[\d.]+(?:e[-+]?\d+)?|nan|-?inf)(?=,|$)")


@dataclass(frozen=True)
class EpochStats:
    """Averages of one epoch, e.g. train["loss"], valid["wer"], train["optim0_lr0"]."""

    epoch: int
    train: Mapping[str, float]
    valid: Mapping[str, float]


def read_epochs(folder: Path) -> list[EpochStats]:
    """Read the epochs that a stage has finished, in order; none if it has not begun.

    Its ``checkpoint.pth`` is asked first, then its ``train.log``.
    """
    checkpoint, log = folder / "checkpoint.pth", folder / "train.log"
    stats: Mapping[int, Mapping[str, Mapping[str, Any]]] = {}
    if checkpoint.is_file() and zipfile.is_zipfile(checkpoint):
        stats = _from_checkpoint(checkpoint)
    elif log.is_file():
        stats = dict(_from_log(log))  # of a resumed run's repeated epochs the last one counts
    return [
        EpochStats(epoch, _numbers(phases.get("train", {})), _numbers(phases.get("valid", {})))
        for epoch, phases in sorted(stats.items())
    ]


def _from_checkpoint(path: Path) -> Mapping[int, Mapping[str, Mapping[str, Any]]]:
    import torch

    try:
        # mmap: the weights in the same file are not read
        states = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        stats: Mapping[int, Mapping[str, Mapping[str, Any]]] = states["reporter"]["stats"]
    except Exception as error:  # torch raises many kinds; a report must not depend on them
        logging.warning("%s: its statistics cannot be read (%s)", path, error)
        return {}
    return stats


def _from_log(path: Path) -> Iterator[tuple[int, dict[str, dict[str, float]]]]:
    with path.open(encoding="utf-8", errors="replace") as file:
        for line in file:
            found = _RESULTS.search(line.rstrip())
            if found:
                phases = {
                    name: {key: float(value) for key, value in _VALUE.findall(values)}
                    for name, values in _PHASE.findall(found[2])
                }
                yield int(found[1]), phases


def _numbers(values: Mapping[str, Any]) -> dict[str, float]:
    return {
        key: float(value)
        for key, value in values.items()
        if isinstance(value, int | float) and not math.isnan(value)
    }
