"""`loss_conf: {max_frames: N}`: which utterances a train stage leaves out, before batches are made.

Without torch, as everything that plans. Of an encoder whose number of frames is not known
beforehand (`model_frames`) nothing is left out here; its criterion then does.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from espnet_plugin.data.model_frames import frames_from_config


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
