"""`precision`: training in bfloat16, float8 or a study's few bits, until a share of the stage.

The progressive part of FracTrain (arXiv 2012.13113): low precision first, full precision at the
end. ESPnet's `use_amp` enters autocast on GPUs only; this one follows the model's device. It needs
no gradient scaler, since bfloat16 has float32's exponents.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from espnet_plugin.nn.accelerators.base import Accelerator, Host, Progress, stateless_generator
from espnet_plugin.nn.accelerators.fake_bits import (
    LossIndicator,
    quantised,
    read_bits,
    with_rounded_gradient,
)
from espnet_plugin.nn.accelerators.float8 import (
    MULTIPLE,
    check_float8,
    convertible,
    float8_forward,
)

#: In float8, what is no product of an encoder block is bfloat16.
DTYPES = {
    "float32": None,
    "bfloat16": torch.bfloat16,
    "float8": torch.bfloat16,
    "auto": None,
}


def has_fast_bfloat16(device: torch.device) -> bool:
    """Whether matrix products in bfloat16 run in hardware there."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    capabilities = torch.backends.cpu.get_cpu_capability()
    return capabilities.startswith("AVX512") and torch.cpu._is_avx512_bf16_supported()


class Precision(Accelerator):
    """Low precision of training batches; validation, alignment and decoding stay in float32.

    Args:
        autocast: "bfloat16", "float32" (off), "auto": bfloat16 where the device has it in hardware,
            else float32; or "float8": the encoder blocks' linear layers by torchao, the rest in
            bfloat16. By default bfloat16, and float32 with fake_bits.
        until: share of the stage after which training goes on in float32; 1 for all of it.
        fake_bits: rounds inputs and weights of the encoder blocks' linear layers to so many bits;
            of a list the next entry is taken when the loss comes to a halt (`LossIndicator`), the
            last one for the last tenth of the stage. 0: as they are.
        grad_bits: the same for the gradients of their outputs, an entry for each of fake_bits.
        threshold, decay, window: of the `LossIndicator`.

    Raises:
        ValueError: for other values.
    """

    def __init__(
        self,
        autocast: str | None = None,
        until: float = 1.0,
        fake_bits: int | Sequence[int] | None = None,
        grad_bits: int | Sequence[int] | None = None,
        threshold: float = 0.05,
        decay: float = 0.3,
        window: int = 5,
    ) -> None:
        if autocast is None:
            autocast = "bfloat16" if fake_bits is None else "float32"
        if autocast not in DTYPES:
            raise ValueError(f"autocast must be one of {', '.join(DTYPES)}; got {autocast!r}")
        if not 0.0 <= until <= 1.0:
            raise ValueError(f"until is a share of the stage, 0 to 1; got {until}")
        if threshold < 0 or not 0 < decay <= 1 or window < 2:
            raise ValueError(
                "threshold must not be negative, decay above 0 and at most 1, window at least 2; "
                f"got {threshold}, {decay}, {window}"
            )
        self._wanted, self._until = autocast, until
        self._dtype: torch.dtype | None = DTYPES[autocast]
        self._bits = read_bits("fake_bits", fake_bits)
        self._grad_bits = read_bits("grad_bits", grad_bits, len(self._bits))
        if autocast == "float8" and any(self._bits):
            raise ValueError("float8 and fake_bits are two precisions of one layer; choose one")
        self._indicator = LossIndicator(len(self._bits), threshold, decay, window)
        self._active = False
        self._now = (0, 0)  # bits of inputs and weights, and of gradients, in this batch
        self._generator = torch.Generator()
        self._seed = 0

    def attach(self, host: Host) -> None:
        """Wraps the model's forward, and those of linear layers."""
        if host.use_amp:
            raise ValueError("use_amp is on as well; choose one of them")
        device = next(host.model.parameters()).device
        self._seed = host.seed
        if self._wanted == "auto":
            self._dtype = torch.bfloat16 if has_fast_bfloat16(device) else None
            chosen = "float32" if self._dtype is None else "bfloat16"
            logging.info("accelerators.precision: auto trains in %s on this %s", chosen, device)
        if self._wanted == "float8":
            check_float8(device)
            self._use_float8(host)
        if any(self._bits) or any(self._grad_bits):
            for linear in _linears(host):
                self._use_bits(linear)
        model, plain = host.model, host.model.forward

        @functools.wraps(plain)
        def forward(*args: Any, **kwargs: Any) -> Any:
            if not (model.training and self._active and self._dtype is not None):
                return plain(*args, **kwargs)
            with torch.autocast(device.type, dtype=self._dtype):
                return plain(*args, **kwargs)

        model.forward = forward

    def _use_float8(self, host: Host, **config: Any) -> None:
        linears = [linear for linear in _linears(host) if convertible(linear)]
        if not linears:
            raise ValueError(
                "autocast float8: no linear layer of the encoder's blocks has sizes that are "
                f"multiples of {MULTIPLE}; take bfloat16"
            )
        for linear in linears:
            self._replace(linear, float8_forward(linear, **config))

    def _replace(self, linear: nn.Linear, low: Any) -> None:
        """Training batches of low precision go through `low`."""
        plain = linear.forward

        @functools.wraps(plain)
        def forward(x: Tensor) -> Tensor:
            result: Tensor = low(x) if linear.training and self._active else plain(x)
            return result

        setattr(linear, "forward", forward)  # noqa: B010  (mypy: a method)

    def _use_bits(self, linear: nn.Linear) -> None:
        def low(x: Tensor) -> Tensor:
            bits, grad_bits = self._now
            weight: Tensor = linear.weight
            if bits:
                x, weight = quantised(x, bits), quantised(weight, bits)
            result = nn.functional.linear(x, weight, linear.bias)
            return (
                with_rounded_gradient(result, grad_bits, self._generator) if grad_bits else result
            )

        self._replace(linear, low)

    def before_batch(self, progress: Progress) -> None:
        """The dtype follows progress alone; bits follow the losses of the epochs before, too."""
        low = self._dtype is not None or any(self._bits) or any(self._grad_bits)
        self._active = low and progress.fraction < self._until
        entry = self._indicator.entry(progress.fraction)
        self._now = self._bits[entry], self._grad_bits[entry]
        if self._now[1]:
            purpose = f"precision {progress.iteration}"
            self._generator = stateless_generator(self._seed, progress, purpose)

    def after_epoch(self, loss: float, fraction: float) -> None:
        """The loss may have come to a halt."""
        self._indicator.add(loss, fraction)

    def strength(self) -> dict[str, float]:
        """1 while in low precision; the bits, where there are some."""
        found = {"low": float(self._active)}
        if any(self._bits):
            found["bits"] = float(self._now[0] if self._active else 0)
        return found

    def state_dict(self) -> dict[str, Any]:
        """Of a schedule of bits, what its next move depends on."""
        return self._indicator.state_dict() if len(self._bits) > 1 else {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes back what `state_dict` gave."""
        if state:
            self._indicator.load_state_dict(state)


def _linears(host: Host) -> Iterator[nn.Linear]:
    for block in host.blocks:
        yield from (module for module in block.modules() if isinstance(module, nn.Linear))
