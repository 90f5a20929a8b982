"""How much data there is: lengths of utterances, from ESPnet's shape files or assumed."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from espnet_plugin.data.frame_limit import too_long, too_short
from espnet_plugin.data.kaldi_files import read_table
from espnet_plugin.pipeline.plan.losses import find_loss
from espnet_plugin.pipeline.plan.options import RunOptions
from espnet_plugin.pipeline.plan.pretraining import options_for
from espnet_plugin.pipeline.plan.stage_plan import TrainStage

FRAMES_PER_SECOND = 100  # feature frames: 10 ms, as Kaldi's and ESPnet's features have them
SPREAD = (0.2, 1.8)  # assumed utterances last between these multiples of the mean


@dataclass(frozen=True)
class DataSize:
    """Lengths of the utterances of a data set.

    Attributes:
        lengths: [N] in the data loader's unit: samples, or feature frames (``extracted``).
        labels: [N] labels of each.
        dimension: features per frame of extracted features, 1 for samples.
        vocabulary: labels there are, special symbols included.
        units_per_second: of ``lengths``.
        source: where this is known from, for people.
    """

    lengths: NDArray[np.int64]
    labels: NDArray[np.int64]
    dimension: int
    vocabulary: int
    units_per_second: float
    source: str

    @property
    def hours(self) -> float:
        return float(self.lengths.sum()) / self.units_per_second / 3600

    @property
    def seconds_per_utterance(self) -> float:
        return float(self.lengths.mean()) / self.units_per_second

    @property
    def labels_per_second(self) -> float:
        return float(self.labels.sum()) / (self.hours * 3600)

    def frames(self, units: float) -> float:
        """Feature frames of 10 ms in so many units of ``lengths``."""
        return units * FRAMES_PER_SECOND / self.units_per_second


def within_limit(data: DataSize, stage: Mapping[str, Any], options: RunOptions) -> DataSize:
    """The utterances that a stage trains on: its options may leave out the longest or shortest.

    Raises:
        ValueError: they leave out all.
    """
    lengths = {str(number): int(length) for number, length in enumerate(data.lengths)}
    pretrains = find_loss(stage.get("loss") or "full_sum").pretrains
    left_out = too_long(lengths, stage, options.feats_type)
    left_out |= too_short(lengths, stage, options.feats_type, pretrains)
    if not left_out:
        return data
    if len(left_out) == len(lengths):
        wrong = (
            "shorter than loss_conf.mask_frames"
            if pretrains
            else "longer than loss_conf.max_frames"
        )
        raise ValueError(f"{data.source}: every utterance is {wrong}")
    keep = np.array([key not in left_out for key in lengths])
    return replace(data, lengths=data.lengths[keep], labels=data.labels[keep])


def units_per_second(options: RunOptions) -> float:
    """Samples, or feature frames, per second."""
    return float(options.fs if options.feats_type == "raw" else FRAMES_PER_SECOND)


def measured(options: RunOptions, part: str) -> DataSize:
    """The lengths that statistics collection found (``train`` or ``valid``).

    Raises:
        ValueError: the shape files are missing, malformed, or disagree.
    """
    speech_file, *text_files = options.shape_files(part)
    speech = _shapes(speech_file)
    text = {key: [0] for key in speech}  # of what has no transcripts
    for text_file in text_files:
        text = _shapes(text_file)
        if speech.keys() != text.keys():
            lacking = f"not the utterances of {speech_file}"
            raise ValueError(f"{text_file}: {lacking}; collect stats again")
    first = next(iter(speech.values()))
    vocabulary = next(iter(text.values()))[1:]
    return DataSize(
        lengths=np.array([shape[0] for shape in speech.values()]),
        labels=np.array([text[key][0] for key in speech]),
        dimension=first[1] if len(first) > 1 else 1,
        vocabulary=vocabulary[0] if vocabulary else 0,
        units_per_second=units_per_second(options),
        source=str(speech_file),
    )


def of_stage(stage: TrainStage, data: DataSize, options: RunOptions, part: str) -> DataSize:
    """What a stage trains or validates on: the pipeline's data, or its own once they are measured.

    Args:
        data: the pipeline's.
        part: ``train`` or ``valid``.
    """
    if not stage.pretrains:
        return data
    own = options_for(stage, options)
    if part in stage.data and all(path.is_file() for path in own.shape_files(part)):
        return measured(own, part)
    if part in stage.data:
        logging.warning(
            "stage %s: %s is not measured yet (collect-stats); counted like --train_data",
            *(stage.name, stage.data[part]),
        )
    return replace(data, labels=np.zeros_like(data.labels))


def assumed(
    hours: float,
    seconds: float,
    labels_per_second: float,
    vocabulary: int,
    options: RunOptions,
    dimension: int = 1,
) -> DataSize:
    """Data that nobody has measured: lengths evenly spread around a mean.

    Args:
        hours: of speech.
        seconds: mean length of an utterance.

    Raises:
        ValueError: an amount that is not positive.
    """
    for name, value in (("hours", hours), ("utterance_seconds", seconds)):
        if not value > 0:
            raise ValueError(f"--{name} must be positive, got {value}")
    count = max(1, round(hours * 3600 / seconds))
    rate = units_per_second(options)
    factors = np.linspace(*SPREAD, count) if count > 1 else np.ones(1)
    spans = seconds * factors
    return DataSize(
        lengths=np.maximum(1, (spans * rate).astype(np.int64)),
        labels=np.maximum(1, (spans * labels_per_second).astype(np.int64)),
        dimension=dimension,
        vocabulary=vocabulary,
        units_per_second=rate,
        source=f"assumed: {count} utterances of {seconds:g} s on average",
    )


def _shapes(path: Path) -> dict[str, list[int]]:
    table = {}
    for key, value in read_table(path).items():
        try:
            table[key] = [int(number) for number in value.split(",")]
        except ValueError:
            raise ValueError(f"{path}: utterance {key}: not a shape: {value[:40]!r}") from None
    return table
