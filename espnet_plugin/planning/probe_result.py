"""What a probe of training steps measured, as it travels between processes (JSON)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class StageProbe:
    """Steps of one train stage, measured on a random batch.

    Attributes:
        parameters: of the model.
        frames: feature frames of the batch (10 ms), padding included.
        seconds: forward and backward pass, median over the steps.
        optimizer_seconds: gradient clipping and the optimizer's step.
        flops: floating-point operations of forward and backward pass (products only).
        launches: operations that torch dispatched, without views: kernels of a GPU.
        state_bytes: parameters, gradients and the optimizer's memory.
        activation_bytes: kept for the backward pass.
        peak_bytes: of the GPU's memory; None on a CPU.
        error: why there is no measurement, or None.
    """

    parameters: int = 0
    frames: float = 0.0
    seconds: float = 0.0
    optimizer_seconds: float = 0.0
    flops: float = 0.0
    launches: int = 0
    state_bytes: int = 0
    activation_bytes: int = 0
    peak_bytes: int | None = None
    error: str | None = None


@dataclass(frozen=True)
class Probe:
    """A probe of all stages on one device.

    Attributes:
        device: its name.
        kind: ``cpu`` or ``cuda``.
        threads: CPU threads.
        memory_bytes: of the device.
        product_rate: operations per second of a large float32 matrix product.
        reference_seconds: a step of the reference model (`planning.reference_system`).
        date: of the measurement.
        stages: train stage -> its probe.
    """

    device: str
    kind: str
    threads: int
    memory_bytes: int
    product_rate: float
    reference_seconds: float
    date: str
    stages: Mapping[str, StageProbe] = field(default_factory=dict)

    def dump(self) -> str:
        """As JSON."""
        return json.dumps(asdict(self), indent=1) + "\n"

    @classmethod
    def load(cls, path: Path) -> Probe:
        """Read what `dump` made.

        Raises:
            ValueError: the file is missing or something else.
        """
        try:
            data: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            stages = {k: StageProbe(**v) for k, v in data.pop("stages").items()}
            return cls(**data, stages=stages)
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise ValueError(
                f"{path}: not the result of a probe ({error}); run `espnet-progressive plan` with "
                "--probe_steps 2 to make one"
            ) from error
