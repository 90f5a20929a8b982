"""Checks of what a caller passes in, shared by all losses.

Shapes: B batch, T frames, S labels, V vocabulary with blank.

Reading values off a GPU would stall it, so checks of values (lengths, labels, finiteness) run
only for tensors that live on the CPU unless ``check=True`` asks for them; checks of shapes,
dtypes and devices always run. Lengths may stay on the CPU whatever the device of the scores.
"""

from __future__ import annotations

import torch
from torch import Tensor

INTEGER_DTYPES = (torch.int16, torch.int32, torch.int64, torch.uint8, torch.int8)


def _wants(check: bool | None, values: Tensor) -> bool:
    return values.device.type == "cpu" if check is None else check


def check_floating(name: str, scores: Tensor, ndim: int) -> None:
    """Raise unless ``scores`` is a floating-point tensor of ``ndim`` axes.

    Raises:
        ValueError: naming tensor, dtype and shape.
    """
    if not scores.is_floating_point():
        raise ValueError(f"{name} must be floating point, got {scores.dtype}")
    if scores.ndim != ndim:
        raise ValueError(f"{name} must have {ndim} axes, got shape {tuple(scores.shape)}")


def check_finite(name: str, scores: Tensor) -> None:
    """Raise if any score is NaN or infinite (reads every value; for debugging).

    Raises:
        ValueError: naming the first sequence concerned.
    """
    bad = ~torch.isfinite(scores)
    if bool(bad.any()):
        where = bad.nonzero()[0].tolist()
        raise ValueError(f"{name} holds a NaN or an infinite value, first at index {where}")


def check_lengths(
    name: str, lengths: Tensor, batch: int, limit: int, minimum: int, check: bool | None = None
) -> None:
    """Raise unless ``lengths`` is [B] of integers in ``minimum .. limit``.

    Raises:
        ValueError: naming the tensor, the sequence and the value.
    """
    if lengths.dtype not in INTEGER_DTYPES:
        raise ValueError(f"{name} must hold integers, got {lengths.dtype}")
    if lengths.shape != (batch,):
        raise ValueError(f"{name} must have shape ({batch},), got {tuple(lengths.shape)}")
    if not _wants(check, lengths):
        return
    bad = ((lengths < minimum) | (lengths > limit)).nonzero().flatten()
    if len(bad):
        first = int(bad[0])
        raise ValueError(
            f"{name}[{first}] = {int(lengths[first])} of the batch lies outside {minimum}..{limit}"
        )


def check_blank(blank: int, vocab_size: int) -> None:
    """Raise unless ``blank`` is an index of the vocabulary.

    Raises:
        ValueError: naming both.
    """
    if not 0 <= blank < vocab_size:
        raise ValueError(f"blank = {blank} lies outside the vocabulary 0..{vocab_size - 1}")


def check_symbols(
    name: str,
    symbols: Tensor,
    lengths: Tensor,
    vocab_size: int,
    *,
    blank: int | None,
    check: bool | None = None,
) -> None:
    """Raise if a symbol before its sequence's length is outside the vocabulary, or the blank.

    Args:
        name: for the message.
        symbols: integers [B, L].
        lengths: [B]; what lies beyond is never read and may hold anything.
        vocab_size: V.
        blank: index that must not occur, or None if it may.
        check: see the module's docstring.

    Raises:
        ValueError: naming the tensor, the sequence, the position and the value.
    """
    if symbols.dtype not in INTEGER_DTYPES:
        raise ValueError(f"{name} must hold integers, got {symbols.dtype}")
    if symbols.ndim != 2 or symbols.shape[0] != lengths.shape[0]:
        raise ValueError(
            f"{name} must have shape ({lengths.shape[0]}, length), got {tuple(symbols.shape)}"
        )
    if not _wants(check, symbols):
        return
    used = (
        torch.arange(symbols.shape[1], device=symbols.device) < lengths.to(symbols.device)[:, None]
    )
    bad = used & ((symbols < 0) | (symbols >= vocab_size))
    if blank is not None:
        bad |= used & (symbols == blank)
    where = bad.nonzero()
    if len(where):
        sequence, position = where[0].tolist()
        symbol = int(symbols[sequence, position])
        reason = "is the blank" if symbol == blank else f"lies outside 0..{vocab_size - 1}"
        raise ValueError(f"{name}[{sequence}, {position}] = {symbol} {reason}")


def check_same_device(**tensors: Tensor) -> None:
    """Raise unless all tensors are on one device.

    Raises:
        ValueError: naming every tensor and its device.
    """
    devices = {name: str(tensor.device) for name, tensor in tensors.items()}
    if len(set(devices.values())) > 1:
        raise ValueError(f"tensors on different devices: {devices}")


def without_padding(values: Tensor, lengths: Tensor) -> Tensor:
    """``values`` [B, L, ...] with zeros past each length [B].

    A gradient of 0 times a NaN of the padding would reach the weights as NaN.
    """
    beyond = (
        torch.arange(values.shape[1], device=values.device) >= lengths.to(values.device)[:, None]
    )
    return values.masked_fill(beyond.view(*beyond.shape, *[1] * (values.ndim - 2)), 0.0)


def clean_targets(targets: Tensor, target_lengths: Tensor, fill: int) -> Tensor:
    """Targets as int64 with everything past each length replaced by ``fill``, [B, S]."""
    positions = torch.arange(targets.shape[1], device=targets.device)
    beyond = positions >= target_lengths.to(targets.device)[:, None]
    return targets.long().masked_fill(beyond, fill)
