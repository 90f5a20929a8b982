"""`ema`: validation and saved models have the exponential moving average of the weights.

After update n (from 0) the average moves by a share of the way to the weights:

    average += (1 - d_n) (weights - average),   d_n = min(decay, (1 + n) / (10 + n))

so that it forgets the random start at once. Training goes on with the weights themselves. They are
the private state of a resume; the model's files have the average, as everything after them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim.swa_utils import get_ema_multi_avg_fn

from espnet_plugin.nn.accelerators.base import Accelerator, Host


class MovingAverage(Accelerator):
    """Keeps the average, and puts it into the model whenever it does not train.

    Parameters and batch-norm statistics are averaged; other buffers (counters) stay as they are.

    Args:
        decay: share of the average that an update keeps, at most; 0 is plain training.

    Raises:
        ValueError: for a decay outside of [0, 1).
    """

    def __init__(self, decay: float = 0.999) -> None:
        if not 0.0 <= decay < 1.0:
            raise ValueError(f"decay is a share, at least 0 and below 1; got {decay}")
        self._most = decay
        self._decay = 0.0
        self._updates = 0
        self._swapped = False  # whether the model has the average, and `_other` the weights
        self._other: list[Tensor] = []
        self._tensors: dict[str, Tensor] = {}

    def attach(self, host: Host) -> None:
        """The model's change between training and evaluation swaps the weights."""
        self._tensors = dict(averaged_tensors(host.model))
        plain = host.model.train

        def train(mode: bool = True) -> nn.Module:
            self._swap(not mode)
            return plain(mode)

        setattr(host.model, "train", train)  # noqa: B010  (mypy: a method)

    def attach_optimizers(self, optimizers: Sequence[torch.optim.Optimizer]) -> None:
        """Every update of the last of them moves the average.

        Raises:
            ValueError: another accelerator trains parameters that are in no file of the model.
        """
        own = {id(tensor) for tensor in self._tensors.values()}
        groups = [group for optimizer in optimizers for group in optimizer.param_groups]
        if any(id(p) not in own for group in groups for p in group["params"] if p.requires_grad):
            raise ValueError(
                "accelerators.ema averages the model's own parameters, and another accelerator of "
                "this stage trains private ones (rep_conv, for instance); choose one of them"
            )
        optimizers[-1].register_step_post_hook(lambda *_: self._update())

    @torch.no_grad()
    def _update(self) -> None:
        weights = list(self._tensors.values())
        if self._updates == 0:
            self._other = [weight.detach().clone() for weight in weights]
        self._decay = min(self._most, (1 + self._updates) / (10 + self._updates))
        self._updates += 1
        average = get_ema_multi_avg_fn(self._decay)  # type: ignore[no-untyped-call]
        average(self._other, [weight.detach() for weight in weights], self._updates)

    @torch.no_grad()
    def _swap(self, average: bool) -> None:
        """Makes the model hold the average, or its weights."""
        if self._updates == 0 or average == self._swapped:
            return
        for tensor, other in zip(self._tensors.values(), self._other, strict=True):
            kept = tensor.detach().clone()
            tensor.copy_(other)
            other.copy_(kept)
        self._swapped = average

    def strength(self) -> dict[str, float]:
        """The decay of the update before."""
        return {"decay": self._decay}

    def state_dict(self) -> dict[str, Any]:
        """The weights that train, and the number of updates."""
        weights = self._other if self._swapped else list(self._tensors.values())
        named = zip(self._tensors, weights, strict=True)
        return {
            "updates": self._updates,
            "weights": {name: weight.detach().clone() for name, weight in named},
        }

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes back what `state_dict` gave; the model holds the average, as its file did.

        Raises:
            ValueError: it is of another model.
        """
        if list(state["weights"]) != list(self._tensors):
            raise ValueError("ema: weights of another model; train the stage anew")
        self._updates, self._swapped = int(state["updates"]), False
        self._other = [tensor.detach().clone() for tensor in self._tensors.values()]
        for tensor, weight in zip(self._tensors.values(), state["weights"].values(), strict=True):
            tensor.copy_(weight)


def averaged_tensors(model: nn.Module) -> list[tuple[str, Tensor]]:
    """Parameters of the model and statistics of its batch norms, by their names."""
    found: list[tuple[str, Tensor]] = list(model.named_parameters())
    for name, module in model.named_modules():
        if isinstance(module, _BatchNorm) and module.running_mean is not None:
            prefix = f"{name}." if name else ""
            assert module.running_var is not None
            found.append((f"{prefix}running_mean", module.running_mean))
            found.append((f"{prefix}running_var", module.running_var))
    return found
