"""The joint network on packed cells: scores forward, gradients by recomputation.

Shapes: B batch, T frames, S labels, J joint size, V vocabulary with blank, C cells, R cells of
one chunk.

A cell (b, t, u) is addressed by its flat index in [B, T, S+1]. Only the listed cells are
computed, R at a time, so the V-sized logits never exist outside a chunk:

    h = tanh(e_t + g_u),  z = W h + c

The hidden layer h (hidden_layer.py) and the rows of logits z (rows.py) have two engines each.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from espnet_plugin.losses.engines.chunk_threads import Turns, run_chunks, workers_for
from espnet_plugin.losses.engines.hidden_layer import HiddenLayer, MakeHidden
from espnet_plugin.losses.engines.joint_inputs import Buffers, JointGradients, JointInputs
from espnet_plugin.losses.engines.rows import RowEngine

_DEFAULT_BUDGET = {"cpu": 6 << 20, "cuda": 256 << 20}
_LANES = 16  # matrix products with fewer or odd numbers of columns run at half speed
# In bfloat16 on a CPU, oneDNN makes and keeps a kernel for every number of rows: half a
# millisecond each, and three times that once its store is full. A last chunk has any number.
_ROWS = 64
_BLOCK = 1280  # symbols whose part of the weight's gradient is added to in one go

Work = Callable[[int, slice], None]  # a chunk's number and its part of the list of cells
MakeWork = Callable[[HiddenLayer, Buffers, Turns], Work]
# a layer that has just gone forward, its hidden units as an operand, its space, the part -> slopes
# [R, V]
Slopes = Callable[[HiddenLayer, Tensor, Buffers, slice], Tensor]


class PackedJoint:
    """Scores and gradients of listed cells, chunk by chunk.

    Args:
        inputs: see :class:`JointInputs`.
        rows: who works on the rows of logits.
        make_hidden: who works on the hidden layer.
        memory_budget: bytes for one chunk's temporaries; None chooses by device.
        threads: on a CPU, work on as many chunks at once as torch has threads.
    """

    def __init__(
        self,
        inputs: JointInputs,
        rows: RowEngine,
        make_hidden: MakeHidden,
        memory_budget: int | None = None,
        threads: bool = False,
    ) -> None:
        self.inputs = inputs
        self.rows = rows
        self.joint_size = inputs.encoder.shape[2]
        self.sum_dtype = inputs.sum_dtype
        device = inputs.encoder.device
        self.weight, self.bias = self._pad_vocabulary()
        budget = (
            _DEFAULT_BUDGET.get(device.type, 64 << 20) if memory_budget is None else memory_budget
        )
        size = torch.finfo(self.sum_dtype).bits // 8
        per_cell = size * (4 * self.joint_size + 2 * self.weight.shape[0])
        self.chunk = max(_LANES, budget // per_cell)
        self._threads = threads and device.type == "cpu"
        self._row_step = _ROWS if device.type == "cpu" and inputs.dtype == torch.bfloat16 else 1
        self._make_hidden = make_hidden

    def _pad_vocabulary(self) -> tuple[Tensor, Tensor]:
        """Weight and bias with a multiple of 16 rows; the added symbols have probability 0."""
        weight, bias = (x.to(self.inputs.dtype) for x in (self.inputs.weight, self.inputs.bias))
        extra = -weight.shape[0] % _LANES
        if extra == 0 or weight.shape[0] > 64 * _LANES:
            return weight, bias
        weight = torch.cat([weight, weight.new_zeros(extra, weight.shape[1])])
        return weight, torch.cat([bias, bias.new_full((extra,), -torch.inf)])

    def _operand(self, rows: Tensor) -> Tensor:
        """Rows of a chunk as a matrix product takes them: in its dtype, with rows of zeros."""
        rows = rows.to(self.weight.dtype)
        extra = min(-len(rows) % self._row_step, self.chunk - len(rows))
        return functional.pad(rows, (0, 0, 0, extra)) if extra else rows

    def _logits(self, hidden: Tensor, buffers: Buffers) -> Tensor:
        """[R, J] -> [R, V] in the dtype of the matrix products; R with the rows of zeros."""
        vocab_size, dtype = self.weight.shape[0], self.weight.dtype
        out = buffers.get("logits", len(hidden), vocab_size, dtype)
        return torch.addmm(self.bias, hidden, self.weight.t(), out=out)

    def _run(self, cells: Tensor, gates: int, make_work: MakeWork) -> None:
        """Work on all chunks of the cells, each within its memory budget."""
        count = cells.shape[0]
        parts = [slice(n, min(n + self.chunk, count)) for n in range(0, count, self.chunk)]
        buffers = Buffers(self.chunk, cells.device)
        layer = self._make_hidden(self.inputs, cells, buffers)
        turns = Turns(gates)
        workers = workers_for(len(parts)) if self._threads else 1
        if workers == 1:
            work = make_work(layer, buffers, turns)
            for number, part in enumerate(parts):
                work(number, part)
            return

        def make_worker() -> Callable[[int], None]:
            own = Buffers(self.chunk, cells.device)
            work = make_work(layer.beside(own), own, turns)
            return lambda number: work(number, parts[number])

        run_chunks(len(parts), workers, turns, make_worker)

    def arc_scores(self, cells: Tensor) -> tuple[Tensor, Tensor]:
        """log p(blank) and log p(label) of the listed cells.

        Args:
            cells: flat indices in ascending order, [C].

        Returns:
            blank [C], label [C].
        """
        blank = torch.empty(cells.shape[0], dtype=self.sum_dtype, device=cells.device)
        label = torch.empty_like(blank)

        def make_work(layer: HiddenLayer, buffers: Buffers, turns: Turns) -> Work:
            def work(number: int, part: slice) -> None:
                blank[part], label[part] = self.rows.arc_scores(
                    self._logits(self._operand(layer.forward(part)), buffers)[: _size(part)],
                    layer.labels(part),
                    self.inputs.blank,
                    overwrite=True,
                )

            return work

        self._run(cells, 0, make_work)
        return blank, label

    def gradients(self, cells: Tensor, blank: Tensor, label: Tensor) -> JointGradients:
        """Gradients of sum over cells of blank * log p(blank) + label * log p(label).

        Args:
            cells: flat indices in ascending order, [C].
            blank: weights, [C].
            label: weights, [C].

        Returns:
            Gradients with respect to the tensors of :class:`JointInputs`.
        """

        def slopes(layer: HiddenLayer, hidden: Tensor, buffers: Buffers, part: slice) -> Tensor:
            return self.rows.slopes(
                self._logits(hidden, buffers)[: _size(part)],
                layer.labels(part),
                self.inputs.blank,
                blank[part],
                label[part],
                overwrite=True,
            )

        return self._backpropagate(cells, slopes)

    def log_probs(self, cells: Tensor, out: Tensor) -> None:
        """log p of every symbol in the listed cells.

        Args:
            cells: flat indices in ascending order, [C].
            out: [B*T*(S+1), V] in the dtype of sums, whose rows of these cells are written.
        """

        def make_work(layer: HiddenLayer, buffers: Buffers, turns: Turns) -> Work:
            def work(number: int, part: slice) -> None:
                hidden = self._operand(layer.forward(part))
                logits = self._logits(hidden, buffers)[: _size(part), : out.shape[1]]
                out[cells[part]] = logits.to(self.sum_dtype).log_softmax(1)

            return work

        self._run(cells, 0, make_work)

    def gradients_of_slopes(self, cells: Tensor, slopes: Tensor) -> JointGradients:
        """Gradients of a sum whose gradients with respect to the logits are known.

        Args:
            cells: flat indices in ascending order, [C].
            slopes: of their logits, [C, V].
        """

        def padded(layer: HiddenLayer, hidden: Tensor, buffers: Buffers, part: slice) -> Tensor:
            out = buffers.get("slopes", _size(part), self.weight.shape[0], self.weight.dtype)
            out[:, slopes.shape[1] :] = 0.0
            out[:, : slopes.shape[1]] = slopes[part]
            return out

        return self._backpropagate(cells, padded)

    def _backpropagate(self, cells: Tensor, slopes: Slopes) -> JointGradients:
        """From the slopes of the logits to all gradients, chunk by chunk."""
        grads = JointGradients.zeros(self.inputs, self.weight)
        blocks = self._weight_blocks()

        def make_work(layer: HiddenLayer, buffers: Buffers, turns: Turns) -> Work:
            def work(number: int, part: slice) -> None:
                hidden = self._operand(layer.forward(part))
                slope = slopes(layer, hidden, buffers, part)  # [R, V]
                padded = self._operand(slope)
                for gate, block in enumerate(blocks):
                    with turns.turn(gate, number):
                        grads.bias[block].add_(slope[:, block].sum(0, dtype=grads.bias.dtype))
                        _add_product(grads.weight[block], padded[:, block].t(), hidden)
                back = self._back_product(padded, buffers)[: len(slope)]
                back = layer.backward(part, back)
                with turns.turn(len(blocks), number):
                    layer.add(part, back, grads)

            return work

        self._run(cells, len(blocks) + 1, make_work)
        return grads

    def _weight_blocks(self) -> list[slice]:
        """Rows of the weight's gradient that workers may add to at the same time."""
        size = self.weight.shape[0]
        if not self._threads or size < 2 * _BLOCK:
            return [slice(0, size)]
        return [slice(n, min(n + _BLOCK, size)) for n in range(0, size, _BLOCK)]

    def _back_product(self, slope: Tensor, buffers: Buffers) -> Tensor:
        """Gradient of the hidden layer, [R, V] -> [R, J] in the dtype of the products."""
        out = buffers.get("back", len(slope), self.joint_size, slope.dtype)
        return torch.mm(slope, self.weight, out=out)


def _size(part: slice) -> int:
    """Cells of a chunk."""
    return int(part.stop - part.start)


def _add_product(total: Tensor, left: Tensor, right: Tensor) -> None:
    """total += left @ right, the product in the dtype of ``left``, the sum in that of ``total``."""
    if left.dtype == total.dtype:
        total.addmm_(left, right)
    else:
        total.add_(left @ right)
