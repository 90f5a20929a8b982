"""Alignments as the model consumes them: label states per step, and stretching in time.

Files hold an alignment as one entry per encoder frame, blank (0) or the label a > 0 on it. Where
the `rnnt` topology puts several labels on one frame, all but the last are further entries -a before
the frame's own: ``0 -3 -4 5 0`` has three frames, and labels 3, 4 and 5 on the second. What the
strictly monotonic topology makes is thus the same in both.

Shape legend: B batch, T encoder frames, S labels, E entries, N = T + S steps of an `rnnt` path.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from espnet_plugin.lattice.topology import step_counts


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


@dataclass(frozen=True)
class PlacedLabels:
    """Labels of a batch and the frames they are on, in order; several may share a frame.

    Attributes:
        labels: [B, S], 0 past the end.
        frames: [B, S] frame of each label.
        counts: [B] labels.
        lengths: [B] frames.
    """

    labels: Tensor
    frames: Tensor
    counts: Tensor
    lengths: Tensor

    @property
    def valid(self) -> Tensor:
        """[B, S]: which places hold a label."""
        return torch.arange(self.labels.size(1), device=self.labels.device) < self.counts[:, None]

    def stretched(self, lengths: Tensor) -> PlacedLabels:
        """On the time axis of stretched utterances of `lengths` [B] frames.

        Labels may come to share a frame, unlike with :func:`stretch_alignment`.
        """
        ratio = lengths.double() / self.lengths.clamp(min=1).double()
        moved = ((self.frames + 0.5) * ratio[:, None]).floor().long()
        return PlacedLabels(
            self.labels, torch.minimum(moved, (lengths - 1)[:, None]), self.counts, lengths
        )

    def path(self) -> Tensor:
        """The `rnnt` path: label or blank (0) of every step, [B, N], blank past the end.

        A frame's labels come one step each before the blank that ends it.
        """
        steps = step_counts(self.lengths, self.counts, "rnnt")
        place = self.frames + torch.arange(self.labels.size(1), device=self.labels.device)
        # One place more takes the padding, and is cut off.
        out = self.labels.new_zeros(len(self.labels), int(steps.max()) + 1)
        place = place.masked_fill(~self.valid, out.size(1) - 1)
        return out.scatter_(1, place, self.labels.masked_fill(~self.valid, 0))[:, :-1]

    def first_steps(self, rows: Tensor, frames: Tensor) -> Tensor:
        """Number of the step at which frame `frames` [C] of utterance `rows` [C] begins, [C]."""
        before = self.valid[rows] & (self.frames[rows] < frames[:, None])  # [C, S]
        return frames + before.sum(1)


def place_labels(entries: Tensor, lengths: Tensor) -> PlacedLabels:
    """Entries [B, E] of which `lengths` [B] count -> their labels and frames.

    A frame number of `PlacedLabels.lengths` says that the entries end within a frame.
    """
    valid = torch.arange(entries.size(1), device=entries.device) < lengths[:, None]  # [B, E]
    ends, is_label = valid & (entries >= 0), valid & (entries != 0)
    counts = is_label.sum(1)  # [B]
    most = int(counts.max()) if len(counts) else 0
    order = (is_label.cumsum(1) - 1).masked_fill(~is_label, most)  # [B, E]; padding goes last
    labels = entries.new_zeros(len(entries), most + 1).scatter_(1, order, entries.abs())
    frame = ends.cumsum(1) - ends.long()
    frames = torch.zeros_like(labels).scatter_(1, order, frame)
    return PlacedLabels(labels[:, :most], frames[:, :most], counts, ends.sum(1))
