"""Names of the backends, what each can do, and which one ``auto`` takes."""

from __future__ import annotations

import importlib
import importlib.util
import os
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from espnet_plugin.losses.options import FullSumOptions

LossFunction = Callable[[Tensor, Tensor, Tensor, Tensor, FullSumOptions], Tensor]


@dataclass(frozen=True)
class Backend:
    """One implementation of the full-sum loss on materialised logits.

    Attributes:
        name: as the user writes it.
        module: of this package, imported at first use.
        requires: importable package it needs, or None.
        install: what to type when that package is missing.
        topologies: which it computes.
        devices: device types it runs on.
        options: regularisers it supports.
    """

    name: str
    module: str
    requires: str | None
    install: str
    topologies: tuple[str, ...]
    devices: tuple[str, ...]
    options: tuple[str, ...] = ()

    @property
    def installed(self) -> bool:
        """Whether the package it needs can be imported (without importing it)."""
        return self.requires is None or importlib.util.find_spec(self.requires) is not None

    @property
    def usable_devices(self) -> tuple[str, ...]:
        """Device types it runs on here: Triton's interpreter adds the CPU."""
        if self.requires == "triton" and os.environ.get("TRITON_INTERPRET") == "1":
            return (*self.devices, "cpu")
        return self.devices

    @property
    def available(self) -> bool:
        """Whether it is installed and this machine has a device for it."""
        present = "cpu" in self.usable_devices or torch.cuda.is_available()
        return self.installed and present

    def lacks(self, device: torch.device, options: FullSumOptions) -> str | None:
        """Why this backend cannot serve a call, or None if it can."""
        if not self.installed:
            return f"needs the package {self.requires!r}: {self.install}"
        if device.type not in self.usable_devices:
            return f"runs on {'/'.join(self.devices)}, not on {device.type}"
        if options.topology not in self.topologies:
            return f"knows the topology {'/'.join(self.topologies)}, not {options.topology}"
        for name in options.altered:
            if name not in self.options:
                return f"has no {name}"
        return None

    def load(self) -> LossFunction:
        """Import the implementation."""
        function: LossFunction = importlib.import_module(self.module).loss
        return function


_HERE = "espnet_plugin.losses.backends"
_ALL_OPTIONS = ("fastemit_lambda", "delay_penalty", "restriction")
_BOTH = ("monotonic", "rnnt")
_EVERYWHERE = ("cpu", "cuda", "mps", "xpu")

_TRITON = Backend(
    "triton",
    f"{_HERE}.triton_backend",
    "triton",
    "pip install triton (it comes with torch for CUDA on Linux)",
    _BOTH,
    ("cuda",),
    _ALL_OPTIONS,
)

BACKENDS: dict[str, Backend] = {
    backend.name: backend
    for backend in (
        Backend("torch", f"{_HERE}.torch_backend", None, "", _BOTH, _EVERYWHERE, _ALL_OPTIONS),
        _TRITON,
        replace(
            _TRITON, name="triton_fused"
        ),  # the same on logits, other kernels in the fused loss
        Backend(
            "torchaudio",
            f"{_HERE}.torchaudio_backend",
            "torchaudio",
            "pip install torchaudio (the release that matches torch)",
            ("rnnt",),
            ("cpu", "cuda"),
        ),
        Backend(
            "warp_rnnt",
            f"{_HERE}.warp_rnnt_backend",
            "warp_rnnt",
            "see docs/losses.md, or pip install 'espnet-progressive[warp-rnnt]' on a GPU machine",
            ("rnnt",),
            ("cuda",),
            ("fastemit_lambda",),
        ),
    )
}

# Best first; ``auto`` takes the first that serves the call. On a GPU only what was checked there:
# values and gradients of ``triton`` and ``torch`` against float64, H100, 2026-11-27
# (benchmarks/RESULTS_gpu.md); the fused loss's loop over chunks has changed since, the kernels have
# not. ``triton_fused`` ran under the interpreter and was compiled for
# Hopper, but has not run on a GPU yet.
_PREFERENCE = ("triton", "torch")


def available_backends() -> tuple[str, ...]:
    """Names of the backends that can run on this machine, ``auto`` excluded."""
    return tuple(name for name, backend in BACKENDS.items() if backend.available)


def resolve_backend(name: str, device: torch.device, options: FullSumOptions) -> str:
    """Check that the backend ``name`` can serve a call; find the best one for ``auto``.

    Raises:
        ValueError: unknown name, or a backend that cannot serve the call, with the reason.
        ImportError: the backend's package is not installed; says what to install.
    """
    if name == "auto":
        return next(n for n in _PREFERENCE if BACKENDS[n].lacks(device, options) is None)
    if name not in BACKENDS:
        raise ValueError(f"backend must be one of {('auto', *BACKENDS)}, got {name!r}")
    reason = BACKENDS[name].lacks(device, options)
    if reason is not None:
        error = ValueError if BACKENDS[name].installed else ImportError
        raise error(f"backend {name!r} {reason}")
    return name


def choose_backend(name: str, device: torch.device, options: FullSumOptions) -> LossFunction:
    """Loss function of the backend that :func:`resolve_backend` finds; raises as it does."""
    return BACKENDS[resolve_backend(name, device, options)].load()
