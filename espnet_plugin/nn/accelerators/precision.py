"""`precision`: training in bfloat16, on GPUs and on CPUs, until a share of the stage.

The progressive part of FracTrain (arXiv 2012.13113) in its useful form: low precision first, full
precision at the end. ESPnet's `use_amp` enters autocast on GPUs only; this one follows the model's
device. It needs no gradient scaler, since bfloat16 has float32's exponents.
"""

from __future__ import annotations

import functools
import logging
from typing import Any

import torch

from espnet_plugin.nn.accelerators.base import Accelerator, Host, Progress

DTYPES = {"float32": None, "bfloat16": torch.bfloat16, "auto": None}


def has_fast_bfloat16(device: torch.device) -> bool:
    """Whether matrix products in bfloat16 run in hardware there."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    capabilities = torch.backends.cpu.get_cpu_capability()
    return capabilities.startswith("AVX512") and torch.cpu._is_avx512_bf16_supported()


class Precision(Accelerator):
    """Autocast of training batches; validation, alignment and decoding stay in float32.

    Args:
        autocast: "bfloat16", "float32" (off), or "auto": bfloat16 where the device has it in
            hardware, else float32.
        until: share of the stage after which training goes on in float32; 1 for all of it.

    Raises:
        ValueError: for other values.
    """

    def __init__(self, autocast: str = "bfloat16", until: float = 1.0) -> None:
        if autocast not in DTYPES:
            raise ValueError(f"autocast must be one of {', '.join(DTYPES)}; got {autocast!r}")
        if not 0.0 <= until <= 1.0:
            raise ValueError(f"until is a share of the stage, 0 to 1; got {until}")
        self._wanted, self._until = autocast, until
        self._dtype: torch.dtype | None = DTYPES[autocast]
        self._active = False

    def attach(self, host: Host) -> None:
        """Wraps the model's forward."""
        if host.use_amp:
            raise ValueError("use_amp is on as well; choose one of them")
        device = next(host.model.parameters()).device
        if self._wanted == "auto":
            self._dtype = torch.bfloat16 if has_fast_bfloat16(device) else None
            chosen = "float32" if self._dtype is None else "bfloat16"
            logging.info("accelerators.precision: auto trains in %s on this %s", chosen, device)
        model, plain = host.model, host.model.forward

        @functools.wraps(plain)
        def forward(*args: Any, **kwargs: Any) -> Any:
            if not (model.training and self._active):
                return plain(*args, **kwargs)
            with torch.autocast(device.type, dtype=self._dtype):
                return plain(*args, **kwargs)

        model.forward = forward

    def before_batch(self, progress: Progress) -> None:
        """The dtype follows progress alone, so a resumed stage needs nothing saved."""
        self._active = self._dtype is not None and progress.fraction < self._until

    def strength(self) -> dict[str, float]:
        """1 while in low precision."""
        return {"low": float(self._active)}
