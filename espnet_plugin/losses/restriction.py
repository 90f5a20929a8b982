"""Restricted lattices: sums over a chosen part of all alignments.

Shapes: B batch, T frames, S labels.

What lies outside has probability 0; inside, value and gradient are exact. A restriction is two
masks: where a blank may be emitted and where each label may be.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Restriction:
    """Permitted arcs.

    Attributes:
        blank: may blank be emitted in cell (t, u), bool [B, T, S+1].
        label: may label u+1 be emitted in cell (t, u), bool [B, T, S].
    """

    blank: Tensor
    label: Tensor

    @property
    def cells(self) -> Tensor:
        """Cells with any permitted arc, bool [B, T, S+1]."""
        cells = self.blank.clone()
        cells[:, :, :-1] |= self.label
        return cells

    def check(self, batch: int, frames: int, width: int) -> None:
        """Raise unless the masks fit a grid.

        Raises:
            ValueError: naming the shapes.
        """
        wanted = ((batch, frames, width), (batch, frames, width - 1))
        if (self.blank.shape, self.label.shape) != wanted:
            raise ValueError(
                f"restriction of shapes {tuple(self.blank.shape)}, {tuple(self.label.shape)} "
                f"for a grid that needs {wanted[0]}, {wanted[1]}"
            )


def alignment_band(
    alignment: Tensor,
    lengths: Tensor,
    target_lengths: Tensor,
    *,
    labels: int | None = None,
    blank: int = 0,
    left: int,
    right: int,
    step_frames: Tensor | None = None,
    frames: int | None = None,
) -> Restriction:
    """Each label within ``left`` frames before and ``right`` after its frame in an alignment.

    Alignment-restricted transducer, Mahadeokar et al. 2021 (arXiv 2011.11921), section 3.

    Args:
        alignment: blank or label of every frame, [B, T]; padding may hold anything. With
            ``step_frames``, of every step of a path in the ``rnnt`` topology, [B, P].
        lengths: frames (steps) of each sequence, [B].
        target_lengths: labels of each sequence, [B].
        labels: S, the padded number of labels (default: the longest sequence's).
        blank: index of the blank.
        left: buffer before the aligned frame, frames >= 0.
        right: buffer after the aligned frame, frames >= 0.
        step_frames: frame of each step, [B, P].
        frames: T, the frames of the grid, where the alignment has steps.

    Raises:
        ValueError: a negative buffer, or an alignment with another number of labels.
    """
    if left < 0 or right < 0:
        raise ValueError(f"the buffers must not be negative, got left={left}, right={right}")
    batch, steps = alignment.shape
    device = alignment.device
    lengths, target_lengths = lengths.to(device), target_lengths.to(device)
    step = torch.arange(steps, device=device)
    emits = (alignment != blank) & (step < lengths[:, None])  # [B, P]
    found = emits.sum(1)
    wrong = (found != target_lengths).nonzero().flatten().tolist()
    if wrong:
        raise ValueError(
            f"alignment of sequence {wrong[0]} of the batch has {int(found[wrong[0]])} labels, "
            f"its target {int(target_lengths[wrong[0]])}"
        )
    size = int(target_lengths.max()) if labels is None else labels
    rank = torch.where(emits, emits.cumsum(1) - 1, size)  # [B, P]; the last column is a bin
    aligned = torch.zeros(batch, size + 1, dtype=torch.long, device=device)
    aligned.scatter_(1, rank, step.expand(batch, -1) if step_frames is None else step_frames)
    frames = steps if frames is None else frames
    first, last = aligned[:, :size] - left, aligned[:, :size] + right  # [B, S]
    # Blank in (t, u) needs label u to be possible earlier and label u+1 to be possible later.
    unused = torch.arange(size, device=device) >= target_lengths[:, None]
    opens = torch.nn.functional.pad(first, (1, 0), value=0)
    closes = torch.nn.functional.pad(last.masked_fill(unused, frames), (0, 1), value=frames)
    time = torch.arange(frames, device=device)[:, None]  # [T, 1]
    return Restriction(
        (time >= opens[:, None]) & (time <= closes[:, None]),
        (time >= first[:, None]) & (time <= last[:, None]) & ~unused[:, None],
    )


def window_restriction(first_position: Tensor, size: int, width: int) -> Restriction:
    """At frame t only the label positions first_position[t] .. first_position[t] + size - 1.

    Args:
        first_position: int64 [B, T].
        size: label positions per frame (S_range of arXiv 2206.13236).
        width: S+1.
    """
    offset = torch.arange(width, device=first_position.device) - first_position[:, :, None]
    cells = (offset >= 0) & (offset < size)  # [B, T, S+1]
    return Restriction(cells, cells[:, :, :-1])
