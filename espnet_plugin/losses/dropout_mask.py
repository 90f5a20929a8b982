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
    """

    def __init__(
        self, probability: float, frame_rows: int, label_rows: int, size: int, device: torch.device
    ) -> None:
        assert 0.0 < probability < 1.0, probability
        low, high = -(2**31), 2**31

        def draw(rows: int) -> Tensor:
            return torch.randint(low, high, (rows, size), dtype=torch.int32, device=device)

        self._by_frame, self._by_label = draw(frame_rows), draw(label_rows)
        kept_values = round((1.0 - probability) * 2**32)
        # int32 sums wrap around, so "below" counts from the most negative value.
        self._threshold = min(low + kept_values, high - 1)
        self._scale = 2**32 / kept_values

    def factors(self, frame_row: Tensor, label_row: Tensor, dtype: torch.dtype) -> Tensor:
        """0 or 1 / (1 - probability) for the cells of the given rows, [R, J]."""
        draws = self._by_frame.index_select(0, frame_row)
        draws += self._by_label.index_select(0, label_row)
        return (draws < self._threshold).to(dtype).mul_(self._scale)
