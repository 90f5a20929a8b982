"""`rep_conv`: depthwise convolutions trained as a sum of branches, one convolution (2204.00826).

Of each encoder block's depthwise convolution of kernel size K, the kernel is

    W = W_0 + sum_i g_i * pad(W_i) + g_a / K + g_1 * delta      [C, 1, K]

with smaller kernels W_i padded to K, a mean over K frames, the identity, and factors g [C] for
each. W is computed before the convolution, so that a step costs what the plain one costs. Files
hold W in the plain kernel's place.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from espnet_plugin.nn.accelerators.base import Accelerator, Host, seeded_generator
from espnet_plugin.nn.accelerators.hiding import fold


class Branches(nn.Module):
    """What is added to the main kernel W_0 of one convolution; see the module's equation.

    Args:
        kernel: [C, 1, K] to add to.
        sizes: of the smaller kernels.
        extra: whether identity and mean are among the branches.
        scale: of all factors g at the beginning.
        trains_scale: whether they are trained.
        generator: of the branches' kernels.
    """

    def __init__(
        self,
        kernel: Tensor,
        sizes: Sequence[int],
        extra: tuple[bool, bool],
        scale: float,
        trains_scale: bool,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        channels, _, self._size = kernel.shape
        self._identity, self._average = extra
        drawn = []
        for size in sizes:
            bound = 1.0 / math.sqrt(size)  # as nn.Conv1d begins
            start = torch.empty(channels, 1, size).uniform_(-bound, bound, generator=generator)
            drawn.append(nn.Parameter(start.to(kernel)))
        self.kernels = nn.ParameterList(drawn)
        factors = torch.full((len(sizes) + sum(extra), channels, 1, 1), scale).to(kernel)
        self.factors = nn.Parameter(factors, requires_grad=trains_scale)
        # ESPnet reads it
        self.factors._no_weight_decay = True  # type: ignore[attr-defined]

    def forward(self) -> Tensor:
        """-> [C, 1, K]."""
        padded = [
            nn.functional.pad(kernel, ((self._size - kernel.size(2)) // 2,) * 2)
            for kernel in self.kernels
        ]
        total = sum(g * w for g, w in zip(self.factors, padded, strict=False))
        rest = list(self.factors[len(padded) :])
        if self._average:
            total = total + rest.pop() / self._size
        if self._identity:
            total = total + nn.functional.pad(rest.pop(), (self._size // 2,) * 2)
        assert isinstance(total, Tensor)
        return total


class RepConv(Accelerator):
    """Branches for the depthwise convolution of every block.

    Args:
        kernels: odd sizes of the smaller kernels, none larger than the convolution's own.
        identity: whether the identity is a branch.
        average: whether the mean over the kernel's frames is one.
        scale: every branch's factor at the beginning.
        train_scale: whether factors are trained; False tells an effect of them from one of the
            branches.

    Raises:
        ValueError: for other values.
    """

    def __init__(
        self,
        kernels: Sequence[int] = (7, 3),
        identity: bool = True,
        average: bool = True,
        scale: float = 0.25,
        train_scale: bool = True,
    ) -> None:
        sizes: list[Any] = list(kernels) if isinstance(kernels, list | tuple) else [kernels]
        if not all(type(size) is int and size > 0 and size % 2 for size in sizes):
            raise ValueError(f"kernels are odd numbers of frames, got {kernels}")
        if not (sizes or identity or average):
            raise ValueError("there is no branch left; name kernels, or leave rep_conv out")
        self._sizes, self._extra = sizes, (bool(identity), bool(average))
        self._scale, self._train_scale = float(scale), bool(train_scale)
        self._convolutions: list[nn.Conv1d] = []

    def attach(self, host: Host) -> None:
        """Gives every depthwise convolution its branches."""
        self.private = nn.ModuleList()
        for block in host.blocks:
            for convolution in _depthwise(block):
                self._convolutions.append(convolution)
                self.private.append(self._branch_out(convolution, host))
        if not self._convolutions:
            raise ValueError("the encoder's blocks have no depthwise convolution (use_cnn_module)")

    def _branch_out(self, convolution: nn.Conv1d, host: Host) -> Branches:
        main = convolution.weight  # [C, 1, K]
        size = main.size(2)
        for kernel in self._sizes:
            if kernel > size:
                raise ValueError(
                    f"a branch of kernel {kernel} does not fit into the convolution's {size} "
                    "(encoder_conf.cnn_module_kernel)"
                )
        number = len(self._convolutions)
        branches = Branches(
            main, self._sizes, self._extra, self._scale, self._train_scale,
            seeded_generator(host.seed, "rep_conv", number),
        )  # fmt: skip
        with torch.no_grad():  # so that the sum is the plain kernel
            main.sub_(branches())

        def kernel_of_all() -> Tensor:
            added: Tensor = branches()
            return main + added

        @functools.wraps(convolution.forward)
        def forward(x: Tensor) -> Any:
            with torch.autocast(x.device.type, enabled=False):
                kernel = kernel_of_all()
            return convolution._conv_forward(x, kernel, convolution.bias)

        setattr(convolution, "forward", forward)  # noqa: B010  (mypy: a method)
        fold(convolution, "weight", kernel_of_all, lambda value: value - branches())
        return branches

    def strength(self) -> dict[str, float]:
        """Mean norm of the kernels, on which a plain kernel's rate would act."""
        assert isinstance(self.private, nn.ModuleList)
        pairs = zip(self._convolutions, self.private, strict=True)
        with torch.no_grad():
            norms = [(convolution.weight + of()).norm() for convolution, of in pairs]
            return {"kernel_norm": float(torch.stack(norms).mean())}

    def state_dict(self) -> dict[str, Any]:
        """Branches and main kernels, of which the model's files have only the sums."""
        mains = [convolution.weight.detach() for convolution in self._convolutions]
        return {**super().state_dict(), "mains": mains}

    def load_state_dict(self, state: Any) -> None:
        """Takes back what `state_dict` gave."""
        super().load_state_dict({k: v for k, v in state.items() if k != "mains"})
        with torch.no_grad():
            for convolution, main in zip(self._convolutions, state["mains"], strict=True):
                convolution.weight.copy_(main)


def _depthwise(block: nn.Module) -> Iterator[nn.Conv1d]:
    for module in block.modules():
        if isinstance(module, nn.Conv1d) and module.groups == module.in_channels > 1:
            yield module
