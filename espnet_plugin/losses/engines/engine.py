"""The pieces of a full-sum loss that exist in plain torch and as kernels."""

from __future__ import annotations

from dataclasses import dataclass

from espnet_plugin.lattice import Recursion, accumulate
from espnet_plugin.losses.engines.hidden_layer import MakeHidden, TorchHidden
from espnet_plugin.losses.engines.rows import RowEngine, TorchRows


@dataclass(frozen=True)
class Engine:
    """Row-wise work on logits, and the recursion over the lattice.

    Attributes:
        rows: log-softmax, gather and their gradient.
        recursion: see :func:`espnet_plugin.lattice.accumulate`.
        hidden: the fused loss's hidden layer.
        threads: chunks of cells may be worked on side by side on a CPU.
    """

    rows: RowEngine
    recursion: Recursion
    hidden: MakeHidden
    threads: bool


def torch_engine() -> Engine:
    """Plain torch, any device."""
    return Engine(TorchRows(), accumulate, TorchHidden, threads=True)


def triton_engine() -> Engine:
    """Triton kernels for rows and recursion; imports Triton."""
    from espnet_plugin.lattice import triton_recursion
    from espnet_plugin.losses.engines.triton_rows import TritonRows

    return Engine(TritonRows(), triton_recursion.accumulate, TorchHidden, threads=False)


def triton_fused_engine() -> Engine:
    """Kernels for the hidden layer as well."""
    from espnet_plugin.lattice import triton_recursion
    from espnet_plugin.losses.engines.triton_hidden import TritonHidden
    from espnet_plugin.losses.engines.triton_rows import TritonRows

    return Engine(TritonRows(), triton_recursion.accumulate, TritonHidden, threads=False)
