"""Dropout whose mask can be computed again for any cell, in any order.

Shapes: B batch, T frames, S labels, J joint size, R cells of one chunk.

The unit (b, t, u, j) is kept when the 32-bit sum r[b, t, j] + q[b, u, j] (modulo 2^32) lies
below a threshold, where r and q are drawn once per call. Each unit is then kept with exactly
the same probability, and the units of any two cells are independent, which is what dropout
asks for, at a memory of O(T + S) rows instead of T * S.
"""

from __future__ import annotations

import torch
from torch import Tensor


class DropoutMask:
    """Reproducible inverted-dropout factors of the hidden layer.

    Args:
        probability: of dropping a unit, in (0, 1).
        frame_rows: B * T.
        label_rows: B * (S+1).
        size: J.
        device: of the masks; they come from torch's default generator there.

    Attributes:
        by_frame, by_label: r [B*T, J] and q [B*(S+1), J], int32.
        threshold: a unit is kept when the sum of its draws, wrapped around, lies below.
        scale: of kept units.
    """

    def __init__(
        self, probability: float, frame_rows: int, label_rows: int, size: int, device: torch.device
    ) -> None:
        assert 0.0 < probability < 1.0, probability
        low, high = -(2**31), 2**31

        def draw(rows: int) -> Tensor:
            return torch.randint(low, high, (rows, size), dtype=torch.int32, device=device)

        self.by_frame, self.by_label = draw(frame_rows), draw(label_rows)
        kept_values = round((1.0 - probability) * 2**32)
        # int32 sums wrap around, so "below" counts from the most negative value.
        self.threshold = min(low + kept_values, high - 1)
        self.scale = 2**32 / kept_values

    def factors(self, frame_row: Tensor, label_row: Tensor, dtype: torch.dtype) -> Tensor:
        """0 or 1 / (1 - probability) for the cells of the given rows, [R, J]."""
        draws = self.by_frame.index_select(0, frame_row)
        draws += self.by_label.index_select(0, label_row)
        return (draws < self.threshold).to(dtype).mul_(self.scale)
