"""`slim`: a coefficient for every feed-forward unit, drawn to zero (EarlyBERT, arXiv 2101.00063).

h = w_2 (c * activation(w_1 x)),  loss + l1 * sum |c|

The stage with `slim` is a search: the units whose coefficients stay large make a smaller model,
`init_from: {ticket: ...}` of the next stage (`nn/ticket.py`). Files hold c multiplied into w_2.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from espnet_plugin.nn.accelerators.base import Accelerator, Host, Progress
from espnet_plugin.nn.accelerators.hiding import fold

#: Attributes of a block that are a linear layer w_1, an activation, and a linear layer w_2.
FEED_FORWARDS = ("feed_forward_macaron", "feed_forward")


class Slim(Accelerator):
    """Coefficients of the encoder's feed-forward units.

    Args:
        l1: weight of the sum of their magnitudes in the loss; 0 leaves them at 1.
        checks: how often in a stage they are noted, evenly; by these notes one sees whether the
            choice of units has settled.

    Raises:
        ValueError: for other values.
    """

    excludes = ("sparse",)

    def __init__(self, l1: float = 1e-4, checks: int = 20) -> None:
        if l1 < 0:
            raise ValueError(f"l1 must not be negative, got {l1}")
        if type(checks) is not int or checks < 1:
            raise ValueError(f"checks is a number of times, at least 1; got {checks}")
        self._l1, self._checks = float(l1), checks
        self._seconds: dict[str, nn.Linear] = {}  # w_2 by their layers' names
        self._notes: dict[int, list[Tensor]] = {}

    @property
    def _coefficients(self) -> list[nn.Parameter]:
        assert isinstance(self.private, nn.ParameterList)
        return list(self.private)

    def attach(self, host: Host) -> None:
        """Multiplies what enters every w_2."""
        names = {module: name for name, module in host.model.named_modules()}
        self.private = nn.ParameterList()
        for block in host.blocks:
            for layer in _feed_forwards(block):
                second = layer.w_2
                assert isinstance(second, nn.Linear)
                self._seconds[names[layer]] = second
                self.private.append(self._multiply(second))
        if not self._seconds:
            raise ValueError("the encoder's blocks have no feed-forward layers w_1, w_2")

    def _multiply(self, second: nn.Linear) -> nn.Parameter:
        ones = torch.ones(second.in_features).to(second.weight)
        coefficient = nn.Parameter(ones, requires_grad=self._l1 > 0)
        # ESPnet reads it
        coefficient._no_weight_decay = True  # type: ignore[attr-defined]

        def scale(module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            return (inputs[0] * coefficient.to(inputs[0].dtype), *inputs[1:])

        def plain(value: Tensor) -> Tensor:
            coefficient.data.fill_(1.0)
            return value

        second.register_forward_pre_hook(scale)
        fold(second, "weight", lambda: second.weight * coefficient, plain)
        return coefficient

    def before_batch(self, progress: Progress) -> None:
        """Notes the magnitudes where a check is due."""
        number = int(progress.fraction * self._checks)
        if number not in self._notes:
            self._notes[number] = [c.detach().abs().cpu() for c in self._coefficients]

    def loss_term(self, batch: Mapping[str, Any], weight: Tensor) -> Tensor | None:
        """l1 * sum |c|."""
        if not self._l1:
            return None
        return self._l1 * torch.cat([c.abs() for c in self._coefficients]).sum()

    def strength(self) -> dict[str, float]:
        """Mean magnitude, and the share of coefficients that are below a tenth."""
        values = torch.cat([c.detach().abs() for c in self._coefficients])
        return {"mean": float(values.mean()), "small": float((values < 0.1).float().mean())}

    def state_dict(self) -> dict[str, Any]:
        """Coefficients and w_2, by the layers' names, and the notes."""
        named = zip(self._seconds.items(), self._coefficients, strict=True)
        layers = {
            name: {"coefficient": c.detach(), "second": second.weight.detach()}
            for (name, second), c in named
        }
        return {"layers": layers, "notes": self._notes}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes back what `state_dict` gave."""
        with torch.no_grad():
            for (name, second), c in zip(self._seconds.items(), self._coefficients, strict=True):
                c.copy_(state["layers"][name]["coefficient"])
                second.weight.copy_(state["layers"][name]["second"])
        self._notes = dict(state["notes"])


def _feed_forwards(block: nn.Module) -> Iterator[nn.Module]:
    for name in FEED_FORWARDS:
        layer = getattr(block, name, None)
        if isinstance(getattr(layer, "w_1", None), nn.Linear):
            assert isinstance(layer, nn.Module)
            yield layer
