"""Which utterances a train stage leaves out, before batches are made.

`loss_conf: {max_frames: N}` leaves out longer ones, and a loss that pretrains those that are
shorter than one of its masks, from which it would learn nothing. Without torch, as everything that
plans. Of an encoder whose number of frames is not known beforehand (`model_frames`) nothing too
long is left out here; its criterion then does.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from espnet_plugin.data.model_frames import frames_from_config

#: Feature frames of a mask of losses that pretrain, unless ``loss_conf.mask_frames`` says others.
MASK_FRAMES = 40


def frame_limit(options: Mapping[str, Any]) -> int | None:
    """The limit in encoder frames that a stage's options set, if any."""
    conf = options.get("loss_conf")
    limit = conf.get("max_frames") if isinstance(conf, Mapping) else None
    return None if limit is None else int(limit)


def too_long(
    lengths: Mapping[str, int], options: Mapping[str, Any], feats_type: str
) -> dict[str, int]:
    """Utterances beyond the limit of a stage's options, and how many encoder frames they have.

    Args:
        lengths: samples, or feature frames (``extracted``), of each utterance.
    """
    limit = frame_limit(options)
    if limit is None:
        return {}
    rule = frames_from_config(options, feats_type)
    frames = {key: rule.encoder_frames(length) for key, length in lengths.items()}
    return {key: count for key, count in frames.items() if count is not None and count > limit}


def too_short(
    lengths: Mapping[str, int], options: Mapping[str, Any], feats_type: str, pretrains: bool
) -> dict[str, int]:
    """Utterances that have no room for a mask, and how many feature frames they have.

    Args:
        lengths: samples, or feature frames (``extracted``), of each utterance.
        pretrains: whether the loss of these options does.
    """
    if not pretrains:
        return {}
    least = mask_frames(options)
    rule = frames_from_config(options, feats_type)
    frames = {key: rule.feature_frames(length) for key, length in lengths.items()}
    return {key: count for key, count in frames.items() if count < least}


def mask_frames(options: Mapping[str, Any]) -> int:
    """Feature frames of a mask under a stage's options."""
    return int((options.get("loss_conf") or {}).get("mask_frames", MASK_FRAMES))
