"""Does an alignment from a file fit its utterance? And moving it to a stretched time axis.

Shape legend: B batch, T encoder frames.
"""

from __future__ import annotations

import torch
from torch import Tensor

from espnet_plugin.nn.alignment import stretch_alignment


def fit_alignment(
    alignment: Tensor,
    aligned: Tensor,
    frames: Tensor,
    utt_ids: list[str],
    blank: int,
    stretches: bool,
) -> Tensor:
    """Moves the alignment to a stretched time axis; otherwise its length has to be right.

    Args:
        alignment: [B, T], a label or blank per frame.
        aligned: frames of each alignment, [B].
        frames: frames that the encoder gives, [B].
        utt_ids: for messages.
        blank: index of the blank.
        stretches: SpecAugment changes the length of the utterances.

    Raises:
        ValueError: a length differs and nothing stretches; names the utterance.
    """
    if torch.equal(aligned, frames.to(aligned)):
        return alignment[:, : int(frames.max())]
    if not stretches:
        bad = int((aligned != frames.to(aligned)).nonzero()[0])
        raise ValueError(
            f"alignment of utterance {utt_ids[bad]} has {int(aligned[bad])} frames, the "
            f"encoder gives {int(frames[bad])}; align again with this model's subsampling"
        )
    return stretch_alignment(alignment, aligned, frames.to(aligned), blank)


def check_labels(
    alignment: Tensor, aligned: Tensor, text_lengths: Tensor, utt_ids: list[str], blank: int
) -> None:
    """Has every alignment as many labels as its transcript?

    Raises:
        ValueError: names the first utterance that has not.
    """
    valid = torch.arange(alignment.size(1), device=alignment.device) < aligned[:, None]
    labels = ((alignment != blank) & valid).sum(1)  # [B]
    if not torch.equal(labels, text_lengths.to(labels)):
        bad = int((labels != text_lengths.to(labels)).nonzero()[0])
        raise ValueError(
            f"alignment of utterance {utt_ids[bad]} carries {int(labels[bad])} labels, its "
            f"transcript {int(text_lengths[bad])}; align again with this token list"
        )
