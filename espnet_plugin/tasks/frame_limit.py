"""`loss_conf: {max_frames: N}` for ESPnet's samplers: shape files without the longer utterances."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path

from espnet_plugin.data.frame_limit import frame_limit, too_long
from espnet_plugin.data.kaldi_files import read_table, some
from espnet_plugin.pipeline.plan.inputs import filter_shapes


def limited_shapes(args: argparse.Namespace, shape_files: Sequence[str]) -> list[str]:
    """The shape files to sample from: those given, or copies in the output directory.

    Args:
        args: of the training.
        shape_files: the first one tells lengths of speech.

    Raises:
        ValueError: no utterance is short enough.
    """
    given = list(shape_files)
    options = vars(args)
    limit = frame_limit(options)
    if limit is None or not given or not all(Path(path).is_file() for path in given):
        return given  # without files (split ones are folders) it is left to the criterion
    feats_type = "raw" if args.input_size is None else "extracted"
    lengths = {key: int(value.split(",")[0]) for key, value in read_table(Path(given[0])).items()}
    left_out = too_long(lengths, options, feats_type)
    if not left_out:
        return given
    if len(left_out) == len(lengths):
        raise ValueError(
            f"{given[0]}: every utterance has more encoder frames than loss_conf.max_frames {limit}"
        )
    logging.info(
        "loss_conf.max_frames %d leaves out %d of %d utterances: %s",
        *(limit, len(left_out), len(lengths), some(sorted(left_out))),
    )
    folder = Path(args.output_dir) / "max_frames"
    keep = lengths.keys() - left_out.keys()
    return [str(path) for path in filter_shapes(map(Path, given), keep, folder)]
