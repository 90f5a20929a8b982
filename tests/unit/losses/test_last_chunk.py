"""The last chunk: few numbers of rows reach a CPU's bfloat16 products, and no bit changes."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from espnet_plugin.losses.engines import packed_joint
from espnet_plugin.losses.engines.hidden_layer import TorchHidden
from espnet_plugin.losses.engines.packed_joint import PackedJoint
from espnet_plugin.losses.engines.rows import TorchRows
from espnet_plugin.nn.accelerators.precision import has_fast_bfloat16
from tests.unit.losses.test_threads import joint_inputs

SIZES, VOCABULARY = (2, 30, 8, 32), 19  # B, T, S, J
CELLS = 2 * 30 * (8 + 1)
CHUNK = 200  # cells, not a multiple of the step


def joint(dtype: torch.dtype) -> PackedJoint:
    inputs = joint_inputs(SIZES, VOCABULARY, torch.Generator().manual_seed(0), dtype)
    made = PackedJoint(inputs, TorchRows(), TorchHidden)
    made.chunk = CHUNK
    return made


def everything(made: PackedJoint, count: int) -> list[Tensor]:
    """Scores, all gradients and log-probabilities of the first cells."""
    cells = torch.arange(count)
    weights = torch.rand(2, count, generator=torch.Generator().manual_seed(1))
    out = torch.zeros(CELLS, VOCABULARY)
    made.log_probs(cells, out)
    first = made.gradients(cells, *weights)
    second = made.gradients_of_slopes(cells, out[:count])
    parts = [(x.encoder, x.prediction, x.weight, x.bias) for x in (first, second)]
    return [*made.arc_scores(cells), out, *parts[0], *parts[1]]


@pytest.mark.parametrize("count", [1, 63, 64, 65, CHUNK, CHUNK + 1, CELLS - 1])
def test_rows_of_zeros_change_no_bit(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    found = everything(joint(torch.bfloat16), count)
    monkeypatch.setattr(packed_joint, "_ROWS", 1)
    for ours, plain in zip(found, everything(joint(torch.bfloat16), count), strict=True):
        assert torch.isfinite(ours).all()
        if has_fast_bfloat16(torch.device("cpu")):
            assert torch.equal(ours, plain)
        else:  # sums over rows may have another order
            torch.testing.assert_close(ours, plain, rtol=0.01, atol=0.01)


def test_few_numbers_of_rows_reach_the_products(monkeypatch: pytest.MonkeyPatch) -> None:
    met: set[int] = set()
    real = torch.addmm

    def spy(bias: Tensor, rows: Tensor, weight: Tensor, out: Tensor) -> Tensor:
        met.add(len(rows))
        return real(bias, rows, weight, out=out)

    monkeypatch.setattr(torch, "addmm", spy)
    for count in range(CHUNK + 1, CELLS, 7):
        everything(joint(torch.bfloat16), count)
    assert met == {64, 128, 192, CHUNK}
    met.clear()
    everything(joint(torch.float32), CHUNK + 1)
    assert met == {1, CHUNK}  # its products keep no kernels
