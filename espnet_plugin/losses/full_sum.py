"""The full-sum loss -log P(a|x) on materialised logits.

Shapes: B batch, T frames, S labels, V vocabulary with blank.

    P(a|x) = sum_{y: B(y)=a} prod_t p(y_t | a_1..a_{s(y,t)}, h_t)         (method.md, "Symbols")

Graves 2012 (arXiv 1211.3711) for ``rnnt``; Tripathi et al. 2019 (arXiv 1911.01629) and Zhou et
al. 2022 for ``monotonic``.
"""

from __future__ import annotations

from typing import Unpack

import torch
from torch import Tensor

from espnet_plugin.losses import inputs
from espnet_plugin.losses.arguments import FullSumArguments, FullSumKeywords
from espnet_plugin.losses.backends import choose_backend
from espnet_plugin.losses.reduction import reduce_path_losses


def full_sum_loss(
    logits: Tensor,
    targets: Tensor,
    logit_lengths: Tensor,
    target_lengths: Tensor,
    **keywords: Unpack[FullSumKeywords],
) -> Tensor:
    """Negative log-probability of the targets, summed over all alignments.

    Args:
        logits: unnormalised scores, [B, T, S+1, V]; a NaN or an infinite logit inside a
            sequence's own cells gives a NaN or infinite loss unless ``check=True``.
        targets: labels, [B, S]; padding may hold anything.
        logit_lengths: frames of each sequence, [B].
        target_lengths: labels of each sequence, [B].
        keywords: ``blank``, ``topology``, ``backend``, ``reduction``, ... of `FullSumArguments`.

    Returns:
        Loss in nats, [B] or scalar, float32 (float64 for float64 logits).

    Raises:
        ValueError: shapes, dtypes, devices, lengths, labels or options do not fit.
        ImportError: the backend's package is not installed.
    """
    arguments = FullSumArguments(**keywords)
    options, blank = arguments.options(), arguments.blank
    inputs.check_floating("logits", logits, 4)
    batch, frames, width, vocab_size = logits.shape
    grid = (frames, width, vocab_size)
    check_full_sum_inputs(
        logits, targets, logit_lengths, target_lengths, grid, blank, arguments.check
    )
    if options.restriction is not None:
        options.restriction.check(batch, frames, width)
    function = choose_backend(arguments.backend, logits.device, options)
    reduction = (arguments.reduction, arguments.infeasible)
    if batch == 0:
        return reduce_path_losses(logits.sum((1, 2, 3)), *reduction)
    with torch.autocast(logits.device.type, enabled=False):
        clean = inputs.clean_targets(targets, target_lengths, (blank + 1) % vocab_size)
        losses = function(logits, clean, logit_lengths, target_lengths, options)
        return reduce_path_losses(losses, *reduction)


def check_full_sum_inputs(
    scores: Tensor,
    targets: Tensor,
    lengths: Tensor,
    target_lengths: Tensor,
    grid: tuple[int, int, int],
    blank: int,
    check: bool | None,
) -> None:
    """Checks shared by the full-sum losses.

    Args:
        scores: what is normalised or summed; its first axis is the batch.
        targets: [B, S].
        lengths: [B].
        target_lengths: [B].
        grid: T, S+1 and V of the scores.
        blank: index of the blank.
        check: see `FullSumArguments`.

    Raises:
        ValueError: something does not fit.
    """
    frames, width, vocab_size = grid
    batch = scores.shape[0]
    inputs.check_blank(blank, vocab_size)
    if targets.ndim != 2 or targets.shape != (batch, width - 1):
        raise ValueError(
            f"targets must have shape ({batch}, {width - 1}) to fit scores of {width} label "
            f"positions, got {tuple(targets.shape)}"
        )
    inputs.check_same_device(scores=scores, targets=targets)
    inputs.check_lengths("lengths", lengths, batch, frames, 1, check)
    inputs.check_lengths("target_lengths", target_lengths, batch, width - 1, 0, check)
    inputs.check_symbols("targets", targets, target_lengths, vocab_size, blank=blank, check=check)
    if check:
        inputs.check_finite("scores", scores)
