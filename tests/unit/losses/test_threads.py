"""Chunks of the fused loss side by side: same bits as one after the other, errors come through."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor

from espnet_plugin.losses import fused_full_sum_loss
from espnet_plugin.losses.engines.chunk_threads import Turns, run_chunks
from espnet_plugin.losses.engines.hidden_layer import TorchHidden
from espnet_plugin.losses.engines.joint_inputs import JointInputs
from espnet_plugin.losses.engines.packed_joint import PackedJoint
from espnet_plugin.losses.engines.rows import TorchRows
from espnet_plugin.nn import JointNetwork

# B, T, S, J; with a vocabulary of one and of several blocks of the weight's gradient
SIZES = (2, 30, 8, 24)
VOCABULARIES = [11, 3000]


@pytest.fixture
def threads() -> Iterator[Callable[[int], None]]:
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def _loss_and_gradients(
    vocab_size: int, topology: str, activation: Callable[[Tensor], Tensor] = torch.tanh
) -> list[Tensor]:
    batch, frames, labels, size = SIZES
    torch.manual_seed(0)
    joint = JointNetwork(16, 12, size, vocab_size, dropout=0.1)
    joint.activation = activation
    encoder = torch.randn(batch, frames, 16, requires_grad=True)
    prediction = torch.randn(batch, labels + 1, 12, requires_grad=True)
    loss = fused_full_sum_loss(
        encoder,
        prediction,
        joint,
        torch.randint(1, vocab_size, (batch, labels)),
        torch.tensor([frames, frames - 7]),
        torch.tensor([labels, labels - 3]),
        topology=topology,
        memory_budget=1,  # chunks of 16 cells
    )
    inputs = [encoder, prediction, *joint.parameters()]
    return [loss.detach(), *torch.autograd.grad(loss, inputs)]


def joint_inputs(
    sizes: tuple[int, int, int, int],
    vocab_size: int,
    generator: torch.Generator,
    dtype: torch.dtype = torch.float32,
) -> JointInputs:
    """Random ones.

    Args:
        sizes: B, T, S, J.
        dtype: of the matrix products.
    """
    batch, frames, labels, size = sizes
    return JointInputs(
        torch.randn(batch, frames, size, generator=generator),
        torch.randn(batch, labels + 1, size, generator=generator),
        torch.randn(vocab_size, size, generator=generator),
        torch.randn(vocab_size, generator=generator),
        torch.randint(1, vocab_size, (batch, labels + 1), generator=generator),
        blank=0,
        activation=None,
        dropout=None,
        dtype=dtype,
    )


def _packed(vocab_size: int) -> list[Tensor]:
    """Scores and gradients of all cells from projected outputs on, in chunks of 16."""
    batch, frames, labels, _ = SIZES
    generator = torch.Generator().manual_seed(0)
    inputs = joint_inputs(SIZES, vocab_size, generator)
    joint = PackedJoint(inputs, TorchRows(), TorchHidden, 1, threads=True)
    cells = torch.arange(batch * frames * (labels + 1))
    grads = joint.gradients(cells, *torch.rand(2, len(cells), generator=generator))
    return [
        *joint.arc_scores(cells),
        grads.encoder,
        grads.prediction,
        grads.weight,
        grads.bias,
    ]


@pytest.mark.parametrize("vocab_size", VOCABULARIES)
def test_bits_do_not_depend_on_threads(vocab_size: int, threads: Callable[[int], None]) -> None:
    threads(1)
    alone = _packed(vocab_size)
    for count in (2, 2, 5):
        threads(count)
        for one, other in zip(alone, _packed(vocab_size), strict=True):
            assert torch.equal(one, other)
        assert torch.get_num_threads() == count  # the workers' own setting stays theirs


@pytest.mark.parametrize("topology", ["monotonic", "rnnt"])
def test_the_whole_loss_beside_one_thread(topology: str, threads: Callable[[int], None]) -> None:
    threads(1)
    alone = _loss_and_gradients(3000, topology)
    threads(4)
    several = _loss_and_gradients(3000, topology)
    # The projections before the chunks are MKL's, whose last bits change with its threads.
    torch.testing.assert_close(several, alone)
    for one, other in zip(several, _loss_and_gradients(3000, topology), strict=True):
        assert torch.equal(one, other)


def test_later_threads_keep_the_number(threads: Callable[[int], None]) -> None:
    threads(2)
    _loss_and_gradients(11, "rnnt")
    seen: list[int] = []
    later = threading.Thread(target=lambda: seen.append(torch.get_num_threads()))
    later.start()
    later.join()
    assert seen == [2]


def test_another_activation_and_inference_mode(threads: Callable[[int], None]) -> None:
    threads(2)
    assert all(x.isfinite().all() for x in _loss_and_gradients(11, "rnnt", torch.relu))
    joint = JointNetwork(16, 12, 24, 11)
    with torch.inference_mode():
        inputs = torch.randn(2, 30, 16), torch.randn(2, 9, 12), joint, torch.ones(2, 8).long()
        lengths = torch.tensor([30, 30]), torch.tensor([8, 8])
        several = fused_full_sum_loss(*inputs, *lengths, memory_budget=1)
        threads(1)
        assert torch.equal(several, fused_full_sum_loss(*inputs, *lengths, memory_budget=1))


def test_the_error_of_a_chunk_is_the_one_raised(threads: Callable[[int], None]) -> None:
    threads(2)

    def fails(x: Tensor) -> Tensor:
        raise OSError("broken activation")

    with pytest.raises(OSError, match="broken activation"):
        _loss_and_gradients(11, "rnnt", fails)
    assert _loss_and_gradients(11, "rnnt")[0].isfinite()  # the threads live on


def test_turns_are_in_order_and_a_failure_wakes_those_who_wait() -> None:
    turns, order = Turns(1), []

    def make_work() -> Callable[[int], None]:
        def work(number: int) -> None:
            with turns.turn(0, number):
                order.append(number)
                if number == 40:
                    raise KeyError(number)

        return work

    with pytest.raises(KeyError):
        run_chunks(100, 4, turns, make_work)
    assert order == list(range(41))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_forked_process_starts_its_own_threads(threads: Callable[[int], None]) -> None:
    def make_work() -> Callable[[int], None]:
        return lambda number: None

    run_chunks(4, 2, Turns(0), make_work)
    child = os.fork()
    if child == 0:
        run_chunks(4, 2, Turns(0), make_work)
        os._exit(7)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
