"""Backends of the full-sum loss on materialised logits, chosen by name.

Each backend is a function

    loss(logits [B, T, S+1, V], targets int64 [B, S], lengths [B], target_lengths [B], options)
        -> -log P, float [B], +inf (with gradient 0) where no alignment exists

Optional packages are imported when a backend is first used, never before.
"""

from __future__ import annotations

from espnet_plugin.losses.backends.registry import (
    Backend,
    available_backends,
    choose_backend,
    resolve_backend,
)

__all__ = ["Backend", "available_backends", "choose_backend", "resolve_backend"]
