"""How long a stage trains: epochs, optimizer steps, or hours (here or on a reference system).

ESPnet counts in epochs, so every budget ends as ``max_epoch`` (and ``num_iters_per_epoch``).
The values are fixed before the stage's first step: the learning-rate curve depends on them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import yaml


@dataclass(frozen=True)
class Budget:
    """A stage's length: at most one of the three below; none of them means ``max_epoch``.

    Attributes:
        max_steps: optimizer steps (not iterations: ``accum_grad`` iterations make one step).
        hours: wall-clock; turned into epochs by a probe on the machine that trains.
        reference_hours: hours on the reference system (`pipeline/state/reference_system.py`): the
            same amount of computing on every machine; turned into hours by that probe.
        probe_iters: iterations of that probe; None probes one whole epoch.
    """

    max_steps: int | None = None
    hours: float | None = None
    reference_hours: float | None = None
    probe_iters: int | None = None

    def __post_init__(self) -> None:
        names = ("max_steps", "hours", "reference_hours")
        given = {name: value for name in names if (value := getattr(self, name)) is not None}
        if len(given) > 1:
            text = " and ".join(f"{name} {value}" for name, value in given.items())
            raise ValueError(f"a stage has one budget, got {text}")
        for name in (*names, "probe_iters"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"{name} must be positive, got {value}")


def options_from_arguments(arguments: Sequence[str]) -> dict[str, str]:
    """``--key value`` and ``--key=value`` pairs of a stage's command-line arguments."""
    found: dict[str, str] = {}
    for index, token in enumerate(arguments):
        if not token.startswith("--"):
            continue
        key, equals, value = token[2:].partition("=")
        if equals:
            found[key] = value
        elif index + 1 < len(arguments):
            found[key] = arguments[index + 1]
    return found


def with_mappings(options: Mapping[str, Any], arguments: Sequence[str]) -> dict[str, Any]:
    """The ``..._conf`` options with what arguments as ``--encoder_conf num_blocks=2`` change.

    ESPnet takes such an option several times; a value without ``=`` is a mapping in YAML.
    """
    found = {
        name: deepcopy(dict(value)) for name, value in options.items() if isinstance(value, Mapping)
    }
    for flag, value in pairwise(arguments):
        name = flag.removeprefix("--")
        if not flag.startswith("--") or not name.endswith("_conf"):
            continue
        key, equals, text = value.partition("=")
        given = {key: text} if equals else yaml.safe_load(value)
        if not isinstance(given, Mapping):
            continue
        for path, item in given.items():
            place = found.setdefault(name, {})
            *outer, last = str(path).split(".")
            for part in outer:
                place = place.setdefault(part, {})
            place[last] = yaml.safe_load(item) if equals else item
    return found


def with_arguments(options: Mapping[str, Any], arguments: Sequence[str]) -> dict[str, Any]:
    """A stage's options, those of its command-line arguments on top."""
    return {
        **options,
        **options_from_arguments(arguments),
        **with_mappings(options, arguments),
    }


def iterations_of_epoch(options: Mapping[str, Any]) -> int | None:
    """``num_iters_per_epoch``, also as an argument has it; None: an epoch is all batches."""
    value = options.get("num_iters_per_epoch")
    if value is None or str(value).lower() in ("none", "null", "nil"):  # ESPnet's words for it
        return None
    return int(value)


def epochs_for_steps(max_steps: int, options: Mapping[str, Any], stage: str) -> dict[str, int]:
    """``max_epoch`` and ``num_iters_per_epoch`` that give ``max_steps`` optimizer steps.

    ESPnet drops a gradient accumulation that an epoch's end cuts off, so the iterations of an
    epoch are made a multiple of ``accum_grad``; the steps are rounded up to whole epochs.

    Raises:
        ValueError: neither ``num_iters_per_epoch`` nor ``max_epoch`` is given.
    """
    accum = int(options.get("accum_grad") or 1)
    iters, epochs = iterations_of_epoch(options), options.get("max_epoch")
    if iters is not None:
        steps_per_epoch = max(1, iters // accum)
        count = math.ceil(max_steps / steps_per_epoch)
    elif epochs is not None:
        steps_per_epoch = math.ceil(max_steps / int(epochs))
        count = math.ceil(max_steps / steps_per_epoch)
    else:
        raise ValueError(
            f"stage {stage}: max_steps {max_steps} needs num_iters_per_epoch (how long an "
            "epoch is) or max_epoch (into how many epochs to cut the steps)"
        )
    return {"max_epoch": count, "num_iters_per_epoch": steps_per_epoch * accum}


def epochs_for_hours(hours: float, epoch_seconds: float, overhead_seconds: float) -> int:
    """Whole epochs that fit into ``hours``, the probe and start-up paid out of it; at least 1."""
    if not epoch_seconds > 0:
        raise ValueError(f"an epoch's time must be positive, got {epoch_seconds} s")
    return max(1, math.floor((hours * 3600.0 - overhead_seconds) / epoch_seconds))


def epoch_seconds_from_probe(
    train_seconds: float, valid_seconds: float, probed_iters: int, iters_per_epoch: int
) -> float:
    """An epoch's time when ``probed_iters`` of its ``iters_per_epoch`` iterations were timed."""
    if probed_iters <= 0 or iters_per_epoch <= 0:
        raise ValueError(f"nothing was probed: {probed_iters} of {iters_per_epoch} iterations")
    return train_seconds * iters_per_epoch / probed_iters + valid_seconds
