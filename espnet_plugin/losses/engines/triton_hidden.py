"""The hidden layer of listed cells as Triton kernels: one forward, two backward.

Shapes: B batch, T frames, S labels, J joint size, C listed cells, R cells of one chunk.

Sums and tanh are made in float32 (float64 for float64), whatever dtype the projected outputs have.
Backward, a program owns a row of the encoder's (or the prediction network's) gradient and walks
over the cells of that row, which the table ``slot`` finds: no atomic additions, so that the same
batch gives the same bits. tanh is computed again rather than kept.
Import this module only where Triton is installed.
"""

from __future__ import annotations

import copy

import torch
import triton
import triton.language as tl
from torch import Tensor

from espnet_plugin.losses.engines.joint_inputs import Buffers, JointGradients, JointInputs

_BLOCK = 256  # units of a cell
_TILE = {"STEPS": 16, "BLOCK": 128}  # cells and units that a backward program has in hand


@triton.jit
def _tanh(x):  # type: ignore
    """tanh by one exponential; its absolute error is the rounding of 1."""
    return 1.0 - 2.0 / (tl.exp(2.0 * x) + 1.0)


@triton.jit  # type: ignore[untyped-decorator]
def _hidden_kernel(  # type: ignore[no-untyped-def]
    encoder_ptr,
    prediction_ptr,
    frame_row_ptr,
    label_row_ptr,
    frame_draws_ptr,
    label_draws_ptr,
    threshold,
    scale,
    out_ptr,
    size,
    ACC: tl.constexpr,
    DROPOUT: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """h = tanh(e + g), times its dropout factor, of one cell."""
    cell = tl.program_id(0).to(tl.int64)
    frame = tl.load(frame_row_ptr + cell) * size
    label = tl.load(label_row_ptr + cell) * size
    for first in range(0, size, BLOCK):
        unit = first + tl.arange(0, BLOCK)
        inside = unit < size
        e = tl.load(encoder_ptr + frame + unit, mask=inside, other=0.0).to(ACC)
        g = tl.load(prediction_ptr + label + unit, mask=inside, other=0.0).to(ACC)
        h = _tanh(e + g)
        if DROPOUT:
            draws = tl.load(frame_draws_ptr + frame + unit, mask=inside, other=0)
            draws += tl.load(label_draws_ptr + label + unit, mask=inside, other=0)
            h = tl.where(draws < threshold, h * scale, 0.0)
        tl.store(out_ptr + cell * size + unit, h.to(out_ptr.dtype.element_ty), mask=inside)


@triton.jit  # type: ignore[untyped-decorator]
def _backward_kernel(  # type: ignore[no-untyped-def]
    own_ptr,
    other_ptr,
    own_draws_ptr,
    other_draws_ptr,
    threshold,
    scale,
    slot_ptr,
    back_ptr,
    grad_ptr,
    start,
    count,
    first_row,
    first_frame,
    last_frame,
    frames,
    width,
    size,
    BY_FRAME: tl.constexpr,
    ACC: tl.constexpr,
    DROPOUT: tl.constexpr,
    STEPS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Adds a row's sum over its cells of back * dh/dz.

    BY_FRAME: the row is a frame's, its cells are those of all label positions; else it is a
    label position's, and its cells are those of the chunk's frames of the same sequence.
    """
    row = first_row + tl.program_id(0).to(tl.int64)
    unit = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = unit < size
    own = tl.load(own_ptr + row * size + unit, mask=inside, other=0.0).to(ACC)
    if BY_FRAME:
        sequence = row // frames
        begin = sequence * 0
        end = begin + width
    else:
        sequence = row // width
        begin = tl.maximum(first_frame, sequence * frames)
        end = tl.minimum(last_frame, sequence * frames + frames - 1) + 1
    total = tl.zeros([BLOCK], ACC)
    for first in range(begin, end, STEPS):
        step = first + tl.arange(0, STEPS)
        if BY_FRAME:
            cell = row * width + step
            other = sequence * width + step
        else:
            cell = step.to(tl.int64) * width + (row - sequence * width)
            other = step.to(tl.int64)
        slot = tl.load(slot_ptr + cell, mask=step < end, other=-1).to(tl.int64) - start
        listed = (slot >= 0) & (slot < count)
        used = listed[:, None] & inside[None, :]
        # Cells of one row lie STEPS by STEPS in a tile, so that their loads do not wait in line.
        far = other[:, None] * size + unit[None, :]
        near = slot[:, None] * size + unit[None, :]
        back = tl.load(back_ptr + near, mask=used, other=0.0).to(ACC)
        h = _tanh(own[None, :] + tl.load(other_ptr + far, mask=used, other=0.0).to(ACC))
        back = back * (1.0 - h * h)
        if DROPOUT:
            own_draws = tl.load(own_draws_ptr + row * size + unit, mask=inside, other=0)
            draws = own_draws[None, :] + tl.load(other_draws_ptr + far, mask=used, other=0)
            back = tl.where(draws < threshold, back * scale, 0.0)
        total += tl.sum(tl.where(used, back, 0.0), 0)
    place = grad_ptr + row * size + unit
    tl.store(place, tl.load(place, mask=inside, other=0.0) + total, mask=inside)


class TritonHidden:
    """See :class:`espnet_plugin.losses.engines.hidden_layer.HiddenLayer`; tanh only.

    Args:
        inputs: of the joint network, without another activation.
        cells: flat indices in [B, T, S+1] in ascending order, [C].
        buffers: working space of the chunks.
    """

    def __init__(self, inputs: JointInputs, cells: Tensor, buffers: Buffers) -> None:
        assert inputs.activation is None
        self._inputs, self._buffers = inputs, buffers
        self._encoder, self._prediction = inputs.rows()
        frames, width = inputs.encoder.shape[1], inputs.prediction.shape[1]
        self._frames, self._width, self._size = frames, width, inputs.encoder.shape[2]
        self._frame_row = torch.div(cells, width, rounding_mode="floor")  # [C]
        batch = torch.div(self._frame_row, frames, rounding_mode="floor")
        self._label_row = cells - (self._frame_row - batch) * width  # [C]
        self._labels = inputs.labels.view(-1).index_select(0, self._label_row)  # [C]
        self._cells = cells
        self._slot: Tensor | None = None
        self._host_rows: dict[int, int] = {}

    def labels(self, part: slice) -> Tensor:
        """See :class:`HiddenLayer`."""
        return self._labels[part]

    def _launch(self) -> tuple[tuple[Tensor, Tensor, int, float], dict[str, object]]:
        """Dropout's arguments (frame and label draws), and what is fixed at compile time."""
        acc = tl.float64 if self._inputs.sum_dtype == torch.float64 else tl.float32
        dropout = self._inputs.dropout
        block = min(_BLOCK, triton.next_power_of_2(self._size))
        fixed = {"ACC": acc, "DROPOUT": dropout is not None, "BLOCK": block, "num_warps": 4}
        if dropout is None:
            return (self._encoder, self._prediction, 0, 1.0), fixed  # never read
        return (dropout.by_frame, dropout.by_label, dropout.threshold, dropout.scale), fixed

    def forward(self, part: slice) -> Tensor:
        """See :class:`HiddenLayer`."""
        frame_row, label_row = self._frame_row[part], self._label_row[part]
        out = self._buffers.get("hidden", len(frame_row), self._size, self._inputs.dtype)
        dropout, fixed = self._launch()
        _hidden_kernel[(len(frame_row),)](
            self._encoder,
            self._prediction,
            frame_row,
            label_row,
            *dropout,
            out,
            self._size,
            **fixed,
        )
        return out

    def _prepare(self, chunk: int) -> Tensor:
        """The place of every cell in the list; and the frames at which chunks begin and end."""
        if self._slot is None:
            grid = self._encoder.shape[0] * self._width
            slot = torch.full((grid,), -1, dtype=torch.int32, device=self._cells.device)
            count = len(self._cells)
            slot[self._cells] = torch.arange(count, dtype=torch.int32, device=slot.device)
            ends = [min(n, count) - 1 for n in range(chunk, count + chunk, chunk)]
            edges = sorted({*range(0, count, chunk), *ends})
            index = torch.tensor(edges, device=slot.device)
            # one synchronisation for all chunks
            self._host_rows = dict(zip(edges, self._frame_row[index].tolist(), strict=True))
            self._slot = slot
        return self._slot

    def backward(self, part: slice, back: Tensor) -> Tensor:
        """See :class:`HiddenLayer`; all is done in :meth:`add`."""
        return back

    def beside(self, buffers: Buffers) -> TritonHidden:
        """See :class:`HiddenLayer`."""
        other = copy.copy(self)
        other._buffers, other._slot, other._host_rows = buffers, None, {}
        return other

    def add(self, part: slice, back: Tensor, grads: JointGradients) -> None:
        """See :class:`HiddenLayer`."""
        slot = self._prepare(self._buffers.rows)
        first, last = self._host_rows[part.start], self._host_rows[part.stop - 1]
        (frame_draws, label_draws, threshold, scale), fixed = self._launch()
        fixed |= _TILE
        blocks = triton.cdiv(self._size, _TILE["BLOCK"])
        first_label = first // self._frames * self._width
        last_label = (last // self._frames + 1) * self._width
        chunk = (part.start, part.stop - part.start)
        span = (first, last, self._frames, self._width, self._size)
        _backward_kernel[(last - first + 1, blocks)](
            self._encoder, self._prediction, frame_draws, label_draws, threshold, scale,
            slot, back, grads.encoder, *chunk, first, *span, BY_FRAME=True, **fixed,
        )  # fmt: skip
        _backward_kernel[(last_label - first_label, blocks)](
            self._prediction, self._encoder, label_draws, frame_draws, threshold, scale,
            slot, back, grads.prediction, *chunk, first_label, *span, BY_FRAME=False, **fixed,
        )  # fmt: skip
