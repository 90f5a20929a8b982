"""The joint network on packed cells: scores forward, gradients by recomputation.

Shapes: B batch, T frames, S labels, J joint size, V vocabulary with blank, C cells, R cells of
one chunk.

A cell (b, t, u) is addressed by its flat index in [B, T, S+1]. Only the listed cells are
computed, R at a time, so the V-sized logits never exist outside a chunk:

    r = exp(2 e_t) exp(2 g_u),  h = tanh(e_t + g_u) = 1 - 2 / (r + 1),  z = W h + c

The product form of tanh shares its exponentials between all cells of a row or a column; on a
CPU that is what makes small vocabularies cheap. It is exact to float rounding as long as the
exponentials neither overflow nor vanish, which is checked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from espnet_plugin.losses.dropout_mask import DropoutMask
from espnet_plugin.losses.rows import RowEngine, sum_dtype

Activation = Callable[[Tensor], Tensor]

# exp(2 * 20) squared stays far inside float32; tanh is 1 to the last bit from 10 on.
_LARGEST_FOR_PRODUCT = 20.0
_DEFAULT_BUDGET = {"cpu": 6 << 20, "cuda": 256 << 20}
_LANES = 16  # matrix products with fewer or odd numbers of columns run at half speed


@dataclass(frozen=True)
class JointInputs:
    """Everything the scores of a cell depend on.

    Attributes:
        encoder: projected encoder output e, [B, T, J].
        prediction: projected prediction output g, [B, S+1, J].
        weight: W, [V, J].
        bias: c, [V].
        labels: label that follows position u (any valid index at u = S), int64 [B, S+1].
        blank: index of the blank.
        activation: of the hidden layer; None stands for tanh.
        dropout: mask of the hidden layer, or None.
        dtype: of the matrix products.
    """

    encoder: Tensor
    prediction: Tensor
    weight: Tensor
    bias: Tensor
    labels: Tensor
    blank: int
    activation: Activation | None
    dropout: DropoutMask | None
    dtype: torch.dtype


class PackedJoint:
    """Scores and gradients of listed cells, chunk by chunk.

    Args:
        inputs: see :class:`JointInputs`.
        rows: who works on the rows of logits.
        memory_budget: bytes for one chunk's temporaries; None chooses by device.
    """

    def __init__(
        self, inputs: JointInputs, rows: RowEngine, memory_budget: int | None = None
    ) -> None:
        self.inputs = inputs
        self.rows = rows
        self.width = inputs.prediction.shape[1]  # S+1
        self.joint_size = inputs.encoder.shape[2]
        self.sum_dtype = sum_dtype(inputs.weight)
        device = inputs.encoder.device
        self.weight, self.bias = self._pad_vocabulary()
        budget = (
            _DEFAULT_BUDGET.get(device.type, 64 << 20) if memory_budget is None else memory_budget
        )
        size = torch.finfo(self.sum_dtype).bits // 8
        per_cell = size * (4 * self.joint_size + 2 * self.weight.shape[0])
        self.chunk = max(_LANES, budget // per_cell)
        dtype = torch.promote_types(inputs.encoder.dtype, inputs.prediction.dtype)
        self._encoder = inputs.encoder.reshape(-1, self.joint_size).to(dtype)  # [B*T, J]
        self._prediction = inputs.prediction.reshape(-1, self.joint_size).to(dtype)  # [B*(S+1), J]
        self._frames = inputs.encoder.shape[1]
        self._by_product = self._product_tables()
        self._buffers: dict[str, Tensor] = {}

    def _pad_vocabulary(self) -> tuple[Tensor, Tensor]:
        """Weight and bias with a multiple of 16 rows; the added symbols have probability 0."""
        weight, bias = (x.to(self.inputs.dtype) for x in (self.inputs.weight, self.inputs.bias))
        extra = -weight.shape[0] % _LANES
        if extra == 0 or weight.shape[0] > 64 * _LANES:
            return weight, bias
        weight = torch.cat([weight, weight.new_zeros(extra, weight.shape[1])])
        return weight, torch.cat([bias, bias.new_full((extra,), -torch.inf)])

    def _product_tables(self) -> bool:
        """Replace e and g by exp(2e) and exp(2g) where tanh may be computed from products."""
        if self.inputs.activation is not None or self._encoder.device.type != "cpu":
            return False
        if self._encoder.dtype not in (torch.float32, torch.float64):
            return False
        largest = max(float(x.abs().max()) for x in (self._encoder, self._prediction))
        if not largest <= _LARGEST_FOR_PRODUCT:
            return False
        self._encoder = torch.exp(2 * self._encoder)
        self._prediction = torch.exp(2 * self._prediction)
        return True

    def rows_of(self, cells: Tensor) -> tuple[Tensor, Tensor]:
        """Rows of the flattened encoder [B*T] and prediction [B*(S+1)] outputs, each [R]."""
        frame_row = torch.div(cells, self.width, rounding_mode="floor")
        batch = torch.div(frame_row, self._frames, rounding_mode="floor")
        return frame_row, cells - (frame_row - batch) * self.width

    def _buffer(self, name: str, rows: int, columns: int, dtype: torch.dtype) -> Tensor:
        """Working space [rows, columns]; chunks share it, for fresh pages cost more than sums."""
        if name not in self._buffers:
            self._buffers[name] = torch.empty(
                (self.chunk, columns), dtype=dtype, device=self.weight.device
            )
        return self._buffers[name][:rows]

    def _activate(self, frame_row: Tensor, label_row: Tensor) -> tuple[Tensor, Tensor]:
        """Pre-activation (if it is needed later) and hidden layer before dropout, both [R, J]."""
        rows, size, dtype = len(frame_row), self.joint_size, self._encoder.dtype
        mixed, other = (self._buffer(name, rows, size, dtype) for name in ("mixed", "other"))
        torch.index_select(self._encoder, 0, frame_row, out=mixed)
        torch.index_select(self._prediction, 0, label_row, out=other)
        if self._by_product:
            mixed.mul_(other).add_(1.0).reciprocal_().mul_(-2.0).add_(1.0)
            return mixed, mixed
        mixed += other
        if self.inputs.activation is None:
            return mixed, mixed.tanh_()
        return mixed, self.inputs.activation(mixed.clone())

    def _factors(self, frame_row: Tensor, label_row: Tensor) -> Tensor | None:
        """Dropout factors of the hidden layer, [R, J]."""
        dropout = self.inputs.dropout
        if dropout is None:
            return None
        return dropout.factors(frame_row, label_row, self._encoder.dtype)

    def _logits(self, hidden: Tensor) -> Tensor:
        """[R, J] -> [R, V] in the dtype of the matrix products."""
        vocab_size, dtype = self.weight.shape[0], self.weight.dtype
        out = self._buffer("logits", len(hidden), vocab_size, dtype)
        return torch.addmm(self.bias, hidden.to(dtype), self.weight.t(), out=out)

    def chunks(self, cells: Tensor) -> Iterator[slice]:
        """Slices of the cell list that fit the memory budget."""
        for first in range(0, cells.shape[0], self.chunk):
            yield slice(first, min(first + self.chunk, cells.shape[0]))

    def arc_scores(self, cells: Tensor) -> tuple[Tensor, Tensor]:
        """log p(blank) and log p(label) of the listed cells.

        Args:
            cells: flat indices, [C].

        Returns:
            blank [C], label [C].
        """
        blank = torch.empty(cells.shape[0], dtype=self.sum_dtype, device=cells.device)
        label = torch.empty_like(blank)
        for part in self.chunks(cells):
            frame_row, label_row = self.rows_of(cells[part])
            hidden = self._activate(frame_row, label_row)[1]
            factors = self._factors(frame_row, label_row)
            if factors is not None:
                hidden.mul_(factors)
            following = self.inputs.labels.view(-1).index_select(0, label_row)
            scores = self.rows.arc_scores(
                self._logits(hidden), following, self.inputs.blank, overwrite=True
            )
            blank[part], label[part] = scores
        return blank, label

    def gradients(self, cells: Tensor, blank: Tensor, label: Tensor) -> JointGradients:
        """Gradients of sum over cells of blank * log p(blank) + label * log p(label).

        Args:
            cells: flat indices, [C].
            blank: weights, [C].
            label: weights, [C].

        Returns:
            Gradients with respect to the tensors of :class:`JointInputs`.
        """
        grads = JointGradients.zeros(self)
        for part in self.chunks(cells):
            frame_row, label_row = self.rows_of(cells[part])
            mixed, hidden = self._activate(frame_row, label_row)
            factors = self._factors(frame_row, label_row)
            kept = hidden if factors is None else hidden * factors
            following = self.inputs.labels.view(-1).index_select(0, label_row)
            slope = self.rows.slopes(
                self._logits(kept),
                following,
                self.inputs.blank,
                blank[part],
                label[part],
                overwrite=True,
            )  # [R, V]
            grads.bias.add_(slope.sum(0, dtype=self.sum_dtype))
            _add_product(grads.weight, slope.t(), kept)
            back = self._back_product(slope)
            if factors is not None:
                back.mul_(factors)
            back = self._through_activation(back, mixed, hidden)
            grads.encoder.index_add_(0, frame_row, back)
            grads.prediction.index_add_(0, label_row, back)
        return grads

    def _back_product(self, slope: Tensor) -> Tensor:
        """Gradient of the hidden layer, [R, V] -> [R, J] in the dtype sums are made in."""
        if slope.dtype != self.sum_dtype:
            return (slope @ self.weight).to(self.sum_dtype)
        out = self._buffer("back", len(slope), self.joint_size, slope.dtype)
        return torch.mm(slope, self.weight, out=out)

    def _through_activation(self, back: Tensor, mixed: Tensor, hidden: Tensor) -> Tensor:
        if self.inputs.activation is None:
            return back.addcmul_(back * hidden, hidden, value=-1.0)  # (1 - h^2) * back
        with torch.enable_grad():
            leaf = mixed.detach().requires_grad_()
            activated = self.inputs.activation(leaf)
        (result,) = torch.autograd.grad(activated, leaf, back.to(activated.dtype))
        return result.to(self.sum_dtype)


def _add_product(total: Tensor, left: Tensor, right: Tensor) -> None:
    """total += left @ right, the product in the dtype of ``left``, the sum in that of ``total``."""
    if left.dtype == total.dtype:
        total.addmm_(left, right)
    else:
        total.add_(left @ right.to(left.dtype))


@dataclass(frozen=True)
class JointGradients:
    """Accumulated gradients, in the dtype sums are made in."""

    encoder: Tensor  # [B*T, J]
    prediction: Tensor  # [B*(S+1), J]
    weight: Tensor  # [V, J], with the padding of the vocabulary
    bias: Tensor  # [V]

    @classmethod
    def zeros(cls, joint: PackedJoint) -> JointGradients:
        """Zeros of the right shapes."""

        def make(*shape: int) -> Tensor:
            return torch.zeros(shape, dtype=joint.sum_dtype, device=joint.weight.device)

        inputs, size = joint.inputs, joint.joint_size
        return cls(
            make(inputs.encoder.shape[0] * inputs.encoder.shape[1], size),
            make(inputs.prediction.shape[0] * inputs.prediction.shape[1], size),
            make(*joint.weight.shape),
            make(joint.weight.shape[0]),
        )
