"""Alignments as the model consumes them: label states per frame, and stretching in time.

Shape legend: B batch, T encoder frames, S labels.
"""

from __future__ import annotations

import torch
from torch import Tensor


def label_states(alignment: Tensor, blank: int = 0) -> Tensor:
    """alignment [B, T] -> s(y, t) [B, T]: labels emitted before each frame (method.md, symbols)."""
    emitted = (alignment != blank).long()
    return emitted.cumsum(dim=1) - emitted


def stretch_alignment(
    alignment: Tensor, lengths: Tensor, new_lengths: Tensor, blank: int = 0
) -> Tensor:
    """Moves the labels of [B, T] alignments to the time axis of a stretched utterance.

    Label positions scale with new_length / length; labels that would fall on one frame are pushed
    apart, keeping their order, and pulled in from the end, so each utterance with S <= T_new keeps
    all its labels. Returns [B, max(new_lengths)]; frames beyond an utterance are blank.
    """
    batch, frames = alignment.shape
    device = alignment.device
    valid = torch.arange(frames, device=device) < lengths[:, None]  # [B, T]
    is_label = (alignment != blank) & valid
    order = is_label.long().cumsum(1) - 1  # [B, T] index of the label at a label frame
    counts = is_label.sum(1)  # [B]
    ratio = new_lengths.double() / lengths.clamp(min=1).double()
    centre = (torch.arange(frames, device=device) + 0.5) * ratio[:, None]
    # Subtracting the label's own index turns "strictly increasing" into "non-decreasing", which a
    # running maximum (from the left) and a bound (from the right) establish without a loop.
    slack = torch.where(is_label, centre.floor().long() - order, torch.full_like(order, -frames))
    slack = torch.minimum(slack.cummax(1).values, (new_lengths - counts)[:, None])
    position = (slack + order).clamp(min=0)  # [B, T]
    width = int(new_lengths.max()) if batch else 0
    keep = is_label & (position < new_lengths[:, None])
    out = alignment.new_full((batch, width), blank)
    rows = torch.arange(batch, device=device)[:, None].expand_as(position)
    out[rows[keep], position[keep]] = alignment[keep]
    return out
