"""How many batches ESPnet makes of an epoch, and how large they are, without importing ESPnet.

The rules are those of `espnet2.samplers` (batch types folded, length, numel, sorted, unsorted),
which the tests compare with.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from espnet_plugin.planning.data_size import DataSize

_DEFAULT_BINS = 1_000_000  # ESPnet's defaults of batch_bins and batch_size
_DEFAULT_SIZE = 20


@dataclass(frozen=True)
class Batches:
    """The batches of one epoch (of ``sorted`` and ``unsorted`` ones the largest is a guess).

    Attributes:
        count: how many; ``num_iters_per_epoch`` where that is set.
        mean_frames: feature frames in one, padding included, on average.
        largest_frames: in the largest one, padding included.
        most_utterances: in the one with most.
    """

    count: int
    mean_frames: float
    largest_frames: float
    most_utterances: int


def epoch_batches(data: DataSize, options: Mapping[str, Any], world_size: int = 1) -> Batches:
    """Batches of an epoch under ESPnet's options.

    Args:
        world_size: GPUs in all; ESPnet makes no batch with fewer utterances.
    """
    groups = grouped(data, options, world_size)
    sizes = [len(group) for group in groups]
    padded = [len(group) * int(data.lengths[group].max()) for group in groups]
    frames = [data.frames(units) for units in padded]
    count = int(options.get("num_iters_per_epoch") or len(sizes))
    return Batches(count, float(np.mean(frames)), max(frames), max(sizes))


def grouped(
    data: DataSize, options: Mapping[str, Any], smallest: int = 1
) -> list[NDArray[np.int64]]:
    """Utterances that ESPnet's options put into a batch, by their places in `data`.

    Args:
        smallest: utterances that a batch has at least.
    """
    order = np.argsort(data.lengths, kind="stable")
    lengths, labels = data.lengths[order].tolist(), data.labels[order].tolist()
    sizes = _sizes(lengths, labels, data, options, smallest)
    return np.split(order, np.cumsum(sizes)[:-1])


def _sizes(
    lengths: list[int],
    labels: list[int],
    data: DataSize,
    options: Mapping[str, Any],
    smallest: int,
) -> list[int]:
    """Utterances of each batch, shortest utterances first."""
    kind = options.get("batch_type", "folded")
    size = int(options.get("batch_size") or _DEFAULT_SIZE)
    if kind in ("sorted", "unsorted"):
        return _cut_evenly(len(lengths), max(size, smallest))
    if kind == "folded":
        folds = [int(fold) for fold in options.get("fold_length") or [800, 150]]
        return _fold(lengths, labels, size, folds, smallest)
    if kind not in ("length", "numel"):
        logging.warning("batch_type %s: its batches are counted as those of length would be", kind)
    speech, text = (data.dimension, data.vocabulary or 1) if kind == "numel" else (1, 1)
    bins = int(options.get("batch_bins") or _DEFAULT_BINS)
    sizes, count = [], 0
    for length, label in zip(lengths, labels, strict=True):
        count += 1
        # the utterance that crosses the limit still belongs to the batch
        if count * (length * speech + label * text) > bins and count >= smallest:
            sizes.append(count)
            count = 0
    return _finish(sizes, count, smallest)


def _fold(
    lengths: list[int], labels: list[int], size: int, folds: list[int], smallest: int
) -> list[int]:
    """Longer utterances, smaller batches: ``size / (1 + length // fold)``."""
    sizes: list[int] = []
    start, total = 0, len(lengths)
    while start < total:
        shapes = (lengths[start], labels[start])
        factor = max(length // fold for length, fold in zip(shapes, folds, strict=False))
        step = max(smallest, size // (1 + factor))
        sizes.append(min(step, total - start))
        start += step
    if len(sizes) > 1 and sizes[-1] < smallest:
        return _finish(sizes[:-1], sizes[-1], smallest)
    return sizes


def _cut_evenly(total: int, size: int) -> list[int]:
    count = max(total // size, 1)
    return [(n + 1) * total // count - n * total // count for n in range(count)]


def _finish(sizes: list[int], rest: int, smallest: int) -> list[int]:
    """Append the last batch, or deal its utterances out where it is too small."""
    if rest >= smallest or (rest and not sizes):
        return [*sizes, rest]
    sizes = list(sizes)
    for number in range(rest):
        sizes[-(number % len(sizes)) - 1] += 1
    return sizes
