"""`sparse`: few weights are active, and which ones is explored while training (arXiv 2401.06898).

Of each linear layer a fixed number of weights is active, by Erdős-Rényi over the layers: density
proportional to (in + out) / (in * out). Every so many updates, a fraction alpha(t) of them grows
where gradients of inactive weights are largest, and as many of the smallest old ones are pruned;

    alpha(t) = alpha / 2 (1 + cos(pi t / until)),  0 from `until` on (t is the stage's progress).

Gradients are looked at on a random subset of the inactive weights as large as the active set.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from espnet_plugin.nn.accelerators.base import Accelerator, Host, Progress, stateless_generator

#: Name in the options -> attributes of a block.
PLACES = {
    "feed_forward": ("feed_forward", "feed_forward_macaron"),
    "attention": ("self_attn", "attn"),
}
EXPLORE = ("uniform", "all", "none")
START = ("random", "magnitude")


class Sparse(Accelerator):
    """Masks on the weights of linear layers.

    Args:
        sparsity: share of these weights that is inactive, in [0, 1).
        where: "feed_forward", "attention".
        every: updates between two explorations.
        alpha: fraction of the active weights that is exchanged at the first one.
        until: share of the stage after which masks stay as they are.
        explore: "uniform" looks at a random subset, "all" at all weights (RigL), "none" keeps the
            first mask.
        start: active weights of a dense model to start from: "random", or by "magnitude". One that
            is sparse enough already keeps its own.

    Raises:
        ValueError: for other values.
    """

    excludes = ("ema", "slim")  # an average of weights has the union of their masks

    def __init__(
        self,
        sparsity: float,
        where: Sequence[str] = ("feed_forward",),
        every: int = 200,
        alpha: float = 0.2,
        until: float = 0.6,
        explore: str = "uniform",
        start: str = "random",
    ) -> None:
        if not 0.0 <= sparsity < 1.0:
            raise ValueError(f"sparsity is a share, at least 0 and below 1; got {sparsity}")
        unknown = sorted(set(where) - set(PLACES)) if isinstance(where, list | tuple) else [where]
        if unknown or not where:
            raise ValueError(f"where lists some of {', '.join(PLACES)}; got {where!r}")
        if explore not in EXPLORE or start not in START:
            raise ValueError(
                f"explore is one of {', '.join(EXPLORE)}, start of {', '.join(START)}; got "
                f"{explore!r} and {start!r}"
            )
        if type(every) is not int or every < 1 or not 0 <= alpha <= 1 or not 0 <= until <= 1:
            raise ValueError(
                f"every is a number of updates, alpha and until are shares; got {every}, {alpha}, "
                f"{until}"
            )
        self._sparsity, self._where, self._every = float(sparsity), tuple(where), every
        self._alpha, self._until = float(alpha), float(until)
        self._explore, self._start = explore, start
        self._weights: dict[str, nn.Parameter] = {}
        self._masks: dict[str, Tensor] = {}
        self._gradients: dict[str, Tensor] = {}  # of all weights, while an exploration is due
        self._place: Progress | None = None
        self._due = False

    def attach(self, host: Host) -> None:
        """Finds the layers and masks their gradients, before they are clipped."""
        self._seed = host.seed
        wanted = {
            id(linear.weight) for block in host.blocks for linear in _linears(block, self._where)
        }
        for name, parameter in host.model.named_parameters():
            if id(parameter) in wanted:
                self._weights[name] = parameter
        if not self._weights:
            raise ValueError(f"the encoder's blocks have no linear layers in {self._where}")
        for name, weight in self._weights.items():
            hook = functools.partial(self._mask_gradient, name)
            weight.register_hook(hook)  # type: ignore[no-untyped-call]

    def attach_optimizers(self, optimizers: Sequence[torch.optim.Optimizer]) -> None:
        """Masks weights after every update."""
        for optimizer in optimizers:
            optimizer.register_step_post_hook(self._after_update)

    def before_batch(self, progress: Progress) -> None:
        """Makes the masks before the first batch; notes whether an exploration is due."""
        if not self._masks:
            self._begin(progress)
        self._place = progress
        if progress.iteration % progress.accum_grad == 0:
            self._gradients = {}
        updates = (progress.epoch - 1) * (progress.iterations // progress.accum_grad)
        number = updates + progress.update + 1
        self._due = (
            self._explore != "none"
            and number % self._every == 0
            and progress.fraction < self._until
        )

    def _begin(self, progress: Progress) -> None:
        shapes = {name: (len(weight), weight.size(1)) for name, weight in self._weights.items()}
        for name, count in active_counts(shapes, 1.0 - self._sparsity).items():
            weight = self._weights[name].detach()
            generator = stateless_generator(self._seed, progress, f"sparse {name}")
            order = torch.rand(weight.numel(), generator=generator).to(weight.device)
            own = weight.flatten() != 0
            if int(own.sum()) <= count:
                order = order + own  # all of its own, and random ones up to the number
            elif self._start == "magnitude":
                order = weight.flatten().abs()
            mask = torch.zeros(weight.numel(), dtype=torch.bool, device=weight.device)
            mask[order.topk(count).indices] = True
            self._masks[name] = mask.view_as(weight)
        self._mask_weights()

    def _mask_gradient(self, name: str, gradient: Tensor) -> Tensor | None:
        mask = self._masks.get(name)
        if mask is None:
            return None
        if self._due:
            before = self._gradients.get(name)
            dense = gradient.detach()
            self._gradients[name] = dense.clone() if before is None else before + dense
        return gradient * mask

    @torch.no_grad()
    def _mask_weights(self) -> None:
        for name, weight in self._weights.items():
            weight.mul_(self._masks[name])

    @torch.no_grad()
    def _after_update(self, optimizer: torch.optim.Optimizer, *_: Any) -> None:
        if not self._masks:
            return
        self._mask_weights()
        if not self._due or self._place is None:
            return
        for name in [name for name in self._weights if name in self._gradients]:
            gradient = self._gradients[name]
            if torch.distributed.is_initialized():
                torch.distributed.all_reduce(gradient)
            weight = self._weights[name]
            generator = stateless_generator(self._seed, self._place, f"explore {name}")
            new = explored(
                *(weight, self._masks[name], gradient, self.alpha_now()),
                None if self._explore == "all" else generator,
            )
            changed = new != self._masks[name]
            self._masks[name] = new
            weight.masked_fill_(changed, 0.0)
            for value in optimizer.state.get(weight, {}).values():
                if isinstance(value, Tensor) and value.shape == weight.shape:
                    value.masked_fill_(changed, 0.0)
        self._gradients, self._due = {}, False

    def alpha_now(self) -> float:
        """alpha(t) of the current batch."""
        t = 0.0 if self._place is None else self._place.fraction
        if t >= self._until:
            return 0.0
        return self._alpha / 2 * (1.0 + math.cos(math.pi * t / self._until))

    def strength(self) -> dict[str, float]:
        """The share of active weights, and alpha(t)."""
        total = sum(mask.numel() for mask in self._masks.values())
        active = sum(int(mask.sum()) for mask in self._masks.values())
        return {"density": active / total, "alpha": self.alpha_now()}

    def mend_average(self, states: dict[str, Tensor]) -> None:
        """Epochs with different masks have an average with the union of them: takes the last."""
        for name, mask in self._masks.items():
            states[name] = states[name] * mask.to(states[name])

    def state_dict(self) -> dict[str, Any]:
        """The masks, eight weights a byte: a weight that has just grown is still zero."""
        packed = {
            name: torch.from_numpy(np.packbits(mask.flatten().cpu().numpy()))
            for name, mask in self._masks.items()
        }
        return {"masks": packed}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes back what `state_dict` gave."""
        for name, packed in state["masks"].items():
            weight = self._weights[name]
            bits = np.unpackbits(packed.numpy(), count=weight.numel()).astype(bool)
            self._masks[name] = torch.from_numpy(bits).view(weight.shape).to(weight.device)


def active_counts(shapes: Mapping[str, tuple[int, int]], density: float) -> dict[str, int]:
    """Active weights of each layer [out, in], `density` of all of them together."""
    left = density * sum(rows * columns for rows, columns in shapes.values())
    counts: dict[str, int] = {}
    open_layers = dict(shapes)
    while open_layers:  # a layer that is full leaves its rest to the others
        scale = left / sum(rows + columns for rows, columns in open_layers.values())
        full = [n for n, (r, c) in open_layers.items() if scale * (r + c) >= r * c]
        for name in full:
            rows, columns = open_layers.pop(name)
            counts[name] = rows * columns
            left -= rows * columns
        if not full:
            counts |= {
                name: max(1, round(scale * (rows + columns)))
                for name, (rows, columns) in open_layers.items()
            }
            break
    return {name: counts[name] for name in shapes}


def explored(
    weight: Tensor, mask: Tensor, gradient: Tensor, alpha: float, generator: torch.Generator | None
) -> Tensor:
    """The next mask, with as many active weights.

    Args:
        weight: any shape; zero where the mask is False.
        mask: True where a weight is active.
        gradient: of all weights.
        alpha: fraction of the active weights that is exchanged.
        generator: of the subset of inactive weights to look at; None looks at all.
    """
    active, inactive = (found.flatten().nonzero().flatten() for found in (mask, ~mask))
    if generator is not None and len(active) < len(inactive):
        chosen = torch.randperm(len(inactive), generator=generator)[: len(active)]
        inactive = inactive[chosen.sort().values.to(inactive.device)]
    count = min(round(alpha * len(active)), len(inactive))
    grown = inactive[gradient.flatten()[inactive].abs().topk(count).indices]
    pruned = active[weight.flatten()[active].abs().topk(count, largest=False).indices]
    new = mask.flatten().clone()
    new[grown], new[pruned] = True, False
    return new.view_as(mask)


def _linears(block: nn.Module, where: Sequence[str]) -> Iterator[nn.Linear]:
    for place in where:
        for attribute in PLACES[place]:
            part = getattr(block, attribute, None)
            if isinstance(part, nn.Module):
                yield from (m for m in part.modules() if isinstance(m, nn.Linear))
