"""The full-sum loss -log P(a|x) on materialised logits.

Shapes: B batch, T frames, S labels, V vocabulary with blank.

    P(a|x) = sum_{y: B(y)=a} prod_t p(y_t | a_1..a_{s(y,t)}, h_t)         (method.md, "Symbols")

Graves 2012 (arXiv 1211.3711) for ``rnnt``; Tripathi et al. 2019 (arXiv 1911.01629) and Zhou et
al. 2022 for ``monotonic``.
"""

from __future__ import annotations

import torch
from torch import Tensor

from espnet_plugin.losses import inputs
from espnet_plugin.losses.backends import choose_backend
from espnet_plugin.losses.options import FullSumOptions
from espnet_plugin.losses.reduction import check_infeasible, check_reduction, reduce_path_losses
from espnet_plugin.losses.restriction import Restriction


def full_sum_loss(
    logits: Tensor,
    targets: Tensor,
    logit_lengths: Tensor,
    target_lengths: Tensor,
    *,
    blank: int = 0,
    topology: str = "monotonic",
    backend: str = "auto",
    reduction: str = "mean",
    infeasible: str = "inf",
    fastemit_lambda: float = 0.0,
    delay_penalty: float = 0.0,
    restriction: Restriction | None = None,
    check: bool | None = None,
) -> Tensor:
    """Negative log-probability of the targets, summed over all alignments.

    Args:
        logits: unnormalised scores, [B, T, S+1, V]; a NaN or an infinite logit inside a
            sequence's own cells gives a NaN or infinite loss unless ``check=True``.
        targets: labels, [B, S]; padding may hold anything.
        logit_lengths: frames of each sequence, [B].
        target_lengths: labels of each sequence, [B].
        blank: index of the blank.
        topology: ``monotonic`` or ``rnnt``.
        backend: a name of :func:`available_backends`, or ``auto``.
        reduction: ``none`` [B], ``sum``, or ``mean`` over sequences.
        infeasible: what a sequence without any alignment gives (more labels than frames in the
            ``monotonic`` topology): ``inf`` (loss +inf), ``skip`` (loss 0, not counted in the
            mean), ``error``. Its gradient is 0 in every case.
        fastemit_lambda: see :class:`espnet_plugin.losses.options.FullSumOptions`.
        delay_penalty: see :class:`espnet_plugin.losses.options.FullSumOptions`.
        restriction: sum over some alignments only, see :mod:`espnet_plugin.losses.restriction`.
        check: True checks all values (lengths, labels, finite logits), False none, None (the
            default) lengths and labels if they are on the CPU.

    Returns:
        Loss in nats, [B] or scalar, float32 (float64 for float64 logits).

    Raises:
        ValueError: shapes, dtypes, devices, lengths, labels or options do not fit.
        ImportError: the backend's package is not installed.
    """
    check_reduction(reduction)
    check_infeasible(infeasible)
    options = FullSumOptions(blank, topology, fastemit_lambda, delay_penalty, restriction)
    inputs.check_floating("logits", logits, 4)
    batch, frames, width, vocab_size = logits.shape
    check_full_sum_inputs(
        logits, targets, logit_lengths, target_lengths, (frames, width, vocab_size), blank, check
    )
    if restriction is not None:
        restriction.check(batch, frames, width)
    function = choose_backend(backend, logits.device, options)
    if batch == 0:
        return reduce_path_losses(logits.sum((1, 2, 3)), reduction, infeasible)
    with torch.autocast(logits.device.type, enabled=False):
        clean = inputs.clean_targets(targets, target_lengths, (blank + 1) % vocab_size)
        losses = function(logits, clean, logit_lengths, target_lengths, options)
        return reduce_path_losses(losses, reduction, infeasible)


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
        check: see :func:`full_sum_loss`.

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
