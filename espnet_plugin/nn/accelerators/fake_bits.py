"""Training as if numbers had few bits: quantisers, and when a schedule takes more of them.

A tensor of b bits has the values s·k, k an integer of at most 2^(b-1) - 1, s its largest magnitude
over that number. Gradients pass the rounding of inputs and weights straight through, and are
themselves rounded up or down at random, so that their expectation is right. This is a study of
what a model tolerates (FracTrain, arXiv 2012.13113): all numbers stay floats, and a step is slower.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

MOST_BITS = 16
#: Shares of a stage before which no more bits are taken, as a one-cycle rate still rises, and from
#: which the last entry counts.
EARLIEST, LATEST = 0.45, 0.9


def _step(x: Tensor, bits: int) -> Tensor:
    """Distance of neighbouring values; the smallest float for a tensor of zeros."""
    most = 2 ** (bits - 1) - 1
    largest: Tensor = x.detach().float().abs().amax()
    least: float = most * torch.finfo(torch.float32).tiny
    step: Tensor = largest.clamp(min=least) / most
    return step


def quantised(x: Tensor, bits: int) -> Tensor:
    """`x` rounded to the nearest of its values of `bits` bits; its gradient is the result's."""
    most, step = 2 ** (bits - 1) - 1, _step(x, bits)
    zero = torch.zeros((), dtype=torch.int32, device=x.device)
    found: Tensor = torch.fake_quantize_per_tensor_affine(x.float(), step, zero, -most, most)
    return found.to(x.dtype)


def rounded_at_random(x: Tensor, bits: int, generator: torch.Generator) -> Tensor:
    """`x` rounded to one of the two neighbouring values, whose expectation is `x`."""
    step = _step(x, bits)
    draws = torch.rand(x.shape, generator=generator).to(x.device)
    return ((x.float() / step + draws).floor() * step).to(x.dtype)


class _RoundedGradient(torch.autograd.Function):
    """Nothing on the way there; a gradient of few bits on the way back."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, bits: int, generator: torch.Generator) -> Tensor:
        ctx.bits, ctx.generator = bits, generator
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        return rounded_at_random(gradients[0], ctx.bits, ctx.generator), None, None


def with_rounded_gradient(x: Tensor, bits: int, generator: torch.Generator) -> Tensor:
    """`x`, whose gradient arrives with `bits` bits."""
    result: Tensor = _RoundedGradient.apply(x, bits, generator)
    return result


@dataclass
class LossIndicator:
    """FracTrain's rule: take more bits where the training loss has come to a halt.

    After an epoch, the next entry is taken if |l_k - l| / m <= threshold for the losses l_k of the
    `window` - 1 epochs before and l of this one, m the mean of all so far. Each of the first three
    times the threshold is multiplied by `decay`.

    Args:
        entries: how many there are.
    """

    entries: int
    threshold: float = 0.05
    decay: float = 0.3
    window: int = 5
    losses: list[float] = field(default_factory=list)
    moves: int = 0

    def add(self, loss: float, fraction: float) -> None:
        """The mean loss of an epoch, at whose end `fraction` of the stage is done."""
        self.losses.append(loss)
        if fraction < EARLIEST or len(self.losses) < self.window or self.moves + 1 >= self.entries:
            return
        mean = abs(sum(self.losses) / len(self.losses))
        before = self.losses[-self.window : -1]
        limit = self.threshold * self.decay ** min(self.moves, 3) * mean
        if all(abs(each - loss) <= limit for each in before):
            self.moves += 1

    def entry(self, fraction: float) -> int:
        """Which one counts at this share of the stage."""
        return self.entries - 1 if fraction >= LATEST else self.moves

    def state_dict(self) -> dict[str, Any]:
        """What a resume needs."""
        return {"losses": list(self.losses), "moves": self.moves}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes back what `state_dict` gave."""
        self.losses, self.moves = list(state["losses"]), int(state["moves"])


def read_bits(name: str, given: int | Sequence[int] | None, count: int | None = None) -> list[int]:
    """A number of bits, or one for each entry of a schedule, as a list.

    Args:
        count: of entries there must be; one number stands for all.

    Raises:
        ValueError: no whole numbers of 2 to 16, or 0 for none; or another count.
    """
    if given is None:
        return [0] * (count or 1)
    bits: list[Any] = list(given) if isinstance(given, list | tuple) else [given] * (count or 1)
    if not bits or not all(type(b) is int and (b == 0 or 2 <= b <= MOST_BITS) for b in bits):
        raise ValueError(
            f"{name} is a number of bits, 2 to {MOST_BITS}, or 0 for all of them, or a list of "
            f"such; got {given!r}"
        )
    if count is not None and len(bits) != count:
        raise ValueError(f"{name} {given!r}: needs {count} entries, as fake_bits has")
    return bits
