"""Full-sum loss of an encoder over all pronunciation variants: trains the aligner.

Shapes: B batch, T frames, V vocabulary with blank.
"""

from __future__ import annotations

import torch
from torch import Tensor

from espnet_plugin.lattice.label_graph import LabelGraph, graph_log_prob
from espnet_plugin.losses import inputs
from espnet_plugin.losses.reduction import check_infeasible, check_reduction, reduce_path_losses


def variant_full_sum_loss(
    logits: Tensor,
    graph: LabelGraph,
    logit_lengths: Tensor,
    *,
    blank: int = 0,
    reduction: str = "mean",
    infeasible: str = "inf",
    check: bool | None = None,
) -> Tensor:
    """-log of the sum over all variants of all words of P(a|x), strictly monotonic topology.

    With one variant for each word, what :func:`encoder_full_sum_loss` computes.

    Args:
        logits: unnormalised scores, [B, T, V].
        graph: the words' variants (:func:`espnet_plugin.lattice.label_graph.make_graph`).
        logit_lengths: frames of each utterance, [B].
        blank: index of the blank.
        reduction: ``none`` [B], ``sum``, or ``mean`` over utterances.
        infeasible: see :func:`espnet_plugin.losses.full_sum_loss`.
        check: see :func:`espnet_plugin.losses.full_sum_loss`.

    Returns:
        Loss in nats, [B] or scalar.

    Raises:
        ValueError: shapes, dtypes, lengths or options do not fit.
    """
    check_reduction(reduction)
    check_infeasible(infeasible)
    inputs.check_floating("logits", logits, 3)
    batch, frames, vocab_size = logits.shape
    inputs.check_blank(blank, vocab_size)
    inputs.check_lengths("logit_lengths", logit_lengths, batch, frames, 1, check)
    inputs.check_same_device(logits=logits, labels=graph.labels)
    if len(graph.labels) != batch:
        raise ValueError(f"logits have {batch} utterances, the graph {len(graph.labels)}")
    if batch == 0:
        return reduce_path_losses(logits.sum((1, 2)), reduction, infeasible)
    with torch.autocast(logits.device.type, enabled=False):
        half = logits.dtype in (torch.float16, torch.bfloat16)
        clean = inputs.without_padding(logits, logit_lengths)
        log_probs = (clean.float() if half else clean).log_softmax(-1)
        lengths = logit_lengths.to(logits.device)
        losses = -graph_log_prob(log_probs[..., blank], graph.arcs(log_probs), lengths, graph)
        return reduce_path_losses(losses, reduction, infeasible)
