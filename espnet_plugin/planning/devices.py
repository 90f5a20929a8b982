"""Classes of GPUs: what their vendor says they can do, for estimates on a machine without one.

Peak rates are dense, from NVIDIA's data sheets (H200 SXM, A100 SXM 80 GB, GeForce RTX 3090 and GTX
1080 Ti); bf16 and tf32 with float32 accumulation. None: the GPU has no such unit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

#: Seconds that a training step takes for each operation that torch dispatches, where operations are
#: short. Small batches are bound by it on any fast GPU. Measured in the paper's stages at the
#: paper's batches under bfloat16: 35 to 47 us for LibriSpeech, 54 to 60 us for Switchboard (H100,
#: 2026-11-27, benchmarks/RESULTS_gpu.md).
LAUNCH_SECONDS = 4e-5
#: Share of the peak that training is assumed to reach; a probe on the GPU itself replaces it. That
#: of fp32 gives the paper's two to three weeks on a GPU of its time (docs/scale.md); the faster
#: units have smaller ones, because only products gain from them, no norm, softmax or dropout.
UTILISATION = {"fp32": 0.2, "tf32": 0.1, "bf16": 0.07}


@dataclass(frozen=True)
class DeviceClass:
    """One kind of GPU; rates in 10^12 floating-point operations per second, memory in GiB."""

    name: str
    memory: float
    fp32: float
    tf32: float | None
    bf16: float | None

    def rate(self, precision: str) -> float:
        """Peak operations per second in ``fp32``, ``tf32`` or ``bf16`` (fp32 where it has none)."""
        rates = {"fp32": self.fp32, "tf32": self.tf32, "bf16": self.bf16}
        return (rates[precision] or self.fp32) * 1e12

    def sustained(self, precision: str, utilisation: float | None = None) -> float:
        """Operations per second that training is assumed to reach; never less than in fp32.

        Args:
            utilisation: share of the peak; None: `UTILISATION`.
        """
        if utilisation is not None:
            return self.rate(precision) * utilisation
        return max(self.rate(kind) * UTILISATION[kind] for kind in ("fp32", precision))


DEVICES = {
    "h200": DeviceClass("H200", 131.0, 67.0, 494.0, 989.0),
    "a100": DeviceClass("A100", 79.0, 19.5, 156.0, 312.0),
    "rtx3090": DeviceClass("RTX 3090", 23.5, 35.6, 35.6, 71.0),
    "gtx1080ti": DeviceClass("GTX 1080 Ti", 10.9, 11.3, None, None),
}


def device_class(name: str) -> DeviceClass:
    """The class of that name, whatever its case and spaces.

    Raises:
        ValueError: an unknown name.
    """
    key = name.lower().replace(" ", "").replace("-", "").replace("_", "")
    if key not in DEVICES:
        raise ValueError(f"--devices {name}: unknown; known: {', '.join(DEVICES)}")
    return DEVICES[key]


def precision(options: Mapping[str, Any]) -> str:
    """The arithmetic of a stage's matrix products: bf16 (``use_amp``), tf32 or fp32."""
    if options.get("use_amp"):
        return "bf16"
    return "tf32" if options.get("use_tf32") else "fp32"
