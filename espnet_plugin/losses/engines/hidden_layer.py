"""The hidden layer of listed cells, h = tanh(e_t + g_u), and its gradient.

Shapes: B batch, T frames, S labels, J joint size, C listed cells, R cells of one chunk.

The product form of tanh

    r = exp(2 e_t) exp(2 g_u),  h = tanh(e_t + g_u) = 1 - 2 / (r + 1)

shares its exponentials between all cells of a row or a column; on a CPU that is what makes small
vocabularies cheap. It is exact to float rounding as long as the exponentials neither overflow nor
vanish, which is checked.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from espnet_plugin.losses.engines.joint_inputs import Buffers, JointGradients, JointInputs

# exp(2 * 20) squared stays far inside float32; tanh is 1 to the last bit from 10 on.
_LARGEST_FOR_PRODUCT = 20.0


class HiddenLayer(Protocol):
    """Works on the cells that it was made for, a chunk at a time."""

    def labels(self, part: slice) -> Tensor:
        """The label that follows each cell, int64 [R]."""

    def forward(self, part: slice) -> Tensor:
        """The hidden layer after dropout, [R, J]; valid until the next call."""

    def backward(self, part: slice, back: Tensor) -> Tensor:
        """What :meth:`add` wants for ``back``, the gradient of the layer, [R, J].

        Called after :meth:`forward` of the same part; ``back`` may be overwritten.
        """

    def add(self, part: slice, back: Tensor, grads: JointGradients) -> None:
        """Add what :meth:`backward` gave to the gradients of the layer's inputs."""

    def beside(self, buffers: Buffers) -> HiddenLayer:
        """One for the same cells that may be used while this one is, with its own space."""


# inputs, flat indices of the cells in [B, T, S+1] in ascending order [C], working space
MakeHidden = Callable[[JointInputs, Tensor, Buffers], HiddenLayer]


class TorchHidden:
    """Plain torch, any activation.

    On a GPU the sums over cells are atomic: the last bits of gradients vary from run to run.

    Args:
        inputs: of the joint network.
        cells: flat indices in [B, T, S+1], [C].
        buffers: working space of the chunks.
    """

    def __init__(self, inputs: JointInputs, cells: Tensor, buffers: Buffers) -> None:
        self._inputs, self._cells, self._buffers = inputs, cells, buffers
        self._encoder, self._prediction = inputs.rows()
        self._by_product = self._product_tables()
        self._rows: tuple[Tensor, Tensor] | None = None
        self._part: slice | None = None

    def _product_tables(self) -> bool:
        """Replace e and g by exp(2e) and exp(2g) where tanh may be computed from products."""
        if self._inputs.activation is not None or self._encoder.device.type != "cpu":
            return False
        if self._encoder.dtype not in (torch.float32, torch.float64):
            return False
        largest = max(float(x.abs().max()) for x in (self._encoder, self._prediction))
        if not largest <= _LARGEST_FOR_PRODUCT:
            return False
        self._encoder = torch.exp(2 * self._encoder)
        self._prediction = torch.exp(2 * self._prediction)
        return True

    def _rows_of(self, part: slice) -> tuple[Tensor, Tensor]:
        """Rows of the flattened encoder [B*T] and prediction [B*(S+1)] outputs, each [R]."""
        if self._rows is None or self._part != part:
            cells = self._cells[part]
            width, frames = self._inputs.prediction.shape[1], self._inputs.encoder.shape[1]
            frame_row = torch.div(cells, width, rounding_mode="floor")
            batch = torch.div(frame_row, frames, rounding_mode="floor")
            self._rows, self._part = (frame_row, cells - (frame_row - batch) * width), part
        return self._rows

    def _activate(self, frame_row: Tensor, label_row: Tensor) -> tuple[Tensor, Tensor]:
        """Pre-activation (if it is needed later) and hidden layer before dropout, both [R, J]."""
        rows, size, dtype = len(frame_row), self._encoder.shape[1], self._encoder.dtype
        mixed, other = (self._buffers.get(name, rows, size, dtype) for name in ("mixed", "other"))
        torch.index_select(self._encoder, 0, frame_row, out=mixed)
        torch.index_select(self._prediction, 0, label_row, out=other)
        if self._by_product:
            mixed.mul_(other).add_(1.0).reciprocal_().mul_(-2.0).add_(1.0)
            return mixed, mixed
        mixed += other
        if self._inputs.activation is None:
            return mixed, mixed.tanh_()
        return mixed, self._inputs.activation(mixed.clone())

    def labels(self, part: slice) -> Tensor:
        """See :class:`HiddenLayer`."""
        return self._inputs.labels.view(-1).index_select(0, self._rows_of(part)[1])

    def forward(self, part: slice) -> Tensor:
        """See :class:`HiddenLayer`."""
        rows = self._rows_of(part)
        self._mixed, self._hidden = self._activate(*rows)
        dropout = self._inputs.dropout
        self._factors = None if dropout is None else dropout.factors(*rows, self._encoder.dtype)
        return self._hidden if self._factors is None else self._hidden * self._factors

    def backward(self, part: slice, back: Tensor) -> Tensor:
        """See :class:`HiddenLayer`."""
        back = back.to(self._inputs.sum_dtype)
        if self._factors is not None:
            back.mul_(self._factors)
        return self._through_activation(back)

    def add(self, part: slice, back: Tensor, grads: JointGradients) -> None:
        """See :class:`HiddenLayer`."""
        frame_row, label_row = self._rows_of(part)
        grads.encoder.index_add_(0, frame_row, back)
        grads.prediction.index_add_(0, label_row, back)

    def beside(self, buffers: Buffers) -> HiddenLayer:
        """See :class:`HiddenLayer`."""
        other = copy.copy(self)  # with the same tables
        other._buffers, other._rows, other._part = buffers, None, None
        return other

    def _through_activation(self, back: Tensor) -> Tensor:
        if self._inputs.activation is None:
            # (1 - h^2) * back
            return back.addcmul_(back * self._hidden, self._hidden, value=-1.0)
        with torch.enable_grad():
            leaf = self._mixed.detach().requires_grad_()
            activated = self._inputs.activation(leaf)
        (result,) = torch.autograd.grad(activated, leaf, back.to(activated.dtype))
        return result.to(self._inputs.sum_dtype)
