"""Full-sum loss of an encoder without prediction network: trains the aligner.

Shapes: B batch, T frames, S labels, V vocabulary with blank.

The scores of a frame do not depend on the label position, so the grid of arc scores is a gather
of [B, T, V] and no [B, T, S+1, V] exists. In the ``monotonic`` topology this is CTC without
label loops (method.md, "Notes from prototypes").
"""

from __future__ import annotations

import torch
from torch import Tensor

from espnet_plugin.lattice import lattice_log_prob
from espnet_plugin.losses import inputs
from espnet_plugin.losses.full_sum import check_full_sum_inputs
from espnet_plugin.losses.options import FullSumOptions
from espnet_plugin.losses.reduction import check_infeasible, check_reduction, reduce_path_losses


def encoder_full_sum_loss(
    logits: Tensor,
    targets: Tensor,
    logit_lengths: Tensor,
    target_lengths: Tensor,
    *,
    blank: int = 0,
    topology: str = "monotonic",
    reduction: str = "mean",
    infeasible: str = "inf",
    delay_penalty: float = 0.0,
    check: bool | None = None,
) -> Tensor:
    """-log P(a|x) with p(v | t, u) = softmax(logits[t])_v.

    Args:
        logits: unnormalised scores (or log-probabilities, which normalise to themselves),
            [B, T, V].
        targets: labels, [B, S]; padding may hold anything.
        logit_lengths: frames of each sequence, [B].
        target_lengths: labels of each sequence, [B].
        blank: index of the blank.
        topology: ``monotonic`` or ``rnnt``.
        reduction: ``none`` [B], ``sum``, or ``mean`` over sequences.
        infeasible: see :func:`espnet_plugin.losses.full_sum_loss`.
        delay_penalty: see :class:`espnet_plugin.losses.options.FullSumOptions`.
        check: see :func:`espnet_plugin.losses.full_sum_loss`.

    Returns:
        Loss in nats, [B] or scalar.

    Raises:
        ValueError: shapes, dtypes, devices, lengths, labels or options do not fit.
    """
    check_reduction(reduction)
    check_infeasible(infeasible)
    options = FullSumOptions(blank, topology, 0.0, delay_penalty)
    inputs.check_floating("logits", logits, 3)
    batch, frames, vocab_size = logits.shape
    labels = targets.shape[-1]
    check_full_sum_inputs(
        logits,
        targets,
        logit_lengths,
        target_lengths,
        (frames, labels + 1, vocab_size),
        blank,
        check,
    )
    if batch == 0:
        return reduce_path_losses(logits.sum((1, 2)), reduction, infeasible)
    with torch.autocast(logits.device.type, enabled=False):
        half = logits.dtype in (torch.float16, torch.bfloat16)
        clean_logits = inputs.without_padding(logits, logit_lengths)
        log_probs = (clean_logits.float() if half else clean_logits).log_softmax(-1)
        clean = inputs.clean_targets(targets, target_lengths, (blank + 1) % vocab_size)
        label = log_probs.gather(2, clean[:, None, :].expand(batch, frames, labels))  # [B, T, S]
        blank_scores = log_probs[:, :, blank, None].expand(batch, frames, labels + 1)
        blank_scores, label = options.alter(blank_scores, label, logit_lengths)
        losses = -lattice_log_prob(blank_scores, label, logit_lengths, target_lengths, topology)
        return reduce_path_losses(losses, reduction, infeasible)
