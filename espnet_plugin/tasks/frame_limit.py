"""Utterances that a stage leaves out, for ESPnet's samplers: shape files without them."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

from espnet_plugin.data.frame_limit import frame_limit, mask_frames, too_long, too_short
from espnet_plugin.data.kaldi_files import read_table, some
from espnet_plugin.pipeline.plan.inputs import filter_shapes
from espnet_plugin.pipeline.plan.losses import find_loss


def limited_shapes(args: argparse.Namespace, shape_files: Sequence[str]) -> list[str]:
    """The shape files to sample from: those given, or copies in the output directory.

    Longer utterances than ``loss_conf.max_frames`` are left out, and of a loss that pretrains
    shorter ones than a mask.

    Args:
        args: of the training.
        shape_files: the first one tells lengths of speech.

    Raises:
        ValueError: no utterance is left.
    """
    given, options = list(shape_files), vars(args)
    pretrains = find_loss(options.get("loss") or "full_sum").pretrains
    limit = frame_limit(options)
    if (limit is None and not pretrains) or not given:
        return given
    if not all(Path(path).is_file() for path in given):
        return given  # without files (split ones are folders) it is left to the criterion
    feats_type = "raw" if args.input_size is None else "extracted"
    lengths = {key: int(value.split(",")[0]) for key, value in read_table(Path(given[0])).items()}
    long = too_long(lengths, options, feats_type)
    _tell(long, lengths, given[0], f"more encoder frames than loss_conf.max_frames {limit}")
    short = too_short(lengths, options, feats_type, pretrains)
    least = f"fewer feature frames than a mask, loss_conf.mask_frames {mask_frames(options)}"
    _tell(short, lengths, given[0], least)
    left_out = long.keys() | short.keys()
    if not left_out:
        return given
    folder = Path(args.output_dir) / "max_frames"
    keep = lengths.keys() - left_out
    return [str(path) for path in filter_shapes(map(Path, given), keep, folder)]


def _tell(left_out: Mapping[str, int], lengths: Mapping[str, int], path: str, have: str) -> None:
    """Log how many are left out; raises ValueError where that is all."""
    if left_out and len(left_out) == len(lengths):
        raise ValueError(f"{path}: every utterance has {have}")
    if left_out:
        told = (len(left_out), len(lengths), have, some(sorted(left_out)))
        logging.info("%d of %d utterances are left out, which have %s: %s", *told)
