"""Lattice-free maximum mutual information of a context-1 transducer, exact over all sequences.

Shapes: B batch, T frames, S labels, V vocabulary with blank, D sizes of encoder and prediction.

    L = -log  P(a|x)^k P_LM(a)^m / sum_{a'} P(a'|x)^k P_LM(a')^m          (k scale, m lm_scale)

over all label sequences a' of any length (Yang, Zhou, Schlueter and Ney, "Lattice-free sequence
discriminative training for phoneme-based neural transducers", arXiv 2212.04325). P(a|x)^k stands
for the sum over alignments of the product of the arcs' p^k. In the ``monotonic`` topology with a
prediction network of context 1 and a bigram language model, a state is the last label alone, and
the sum is a recursion over frames (`lattice.label_contexts`; docs/maths.md, section 7).

With k = 1 and m = 0 it is 1, and L is the full-sum loss. No lists and no search: what competes
with the reference is everything.
"""

from __future__ import annotations

import torch
from torch import Tensor

from espnet_plugin.losses import inputs
from espnet_plugin.losses.engines.engine import torch_engine
from espnet_plugin.losses.engines.lf_mmi_function import LFMMI, Reference
from espnet_plugin.losses.full_sum import check_full_sum_inputs
from espnet_plugin.losses.fused import fused_options
from espnet_plugin.losses.reduction import check_infeasible, check_reduction, reduce_path_losses
from espnet_plugin.nn import JointNetwork


def lf_mmi_loss(
    encoder_out: Tensor,
    context_out: Tensor,
    joint: JointNetwork,
    targets: Tensor,
    encoder_lengths: Tensor,
    target_lengths: Tensor,
    bigram: Tensor,
    *,
    blank: int = 0,
    scale: float = 1.0,
    lm_scale: float = 1.0,
    reduction: str = "mean",
    infeasible: str = "inf",
    memory_budget: int | None = None,
    negligible: float | None = None,
) -> Tensor:
    """The loss L of the module's docstring.

    The scores of all arcs, B * T * V * V numbers, are held while it is computed; until the backward
    pass, those of the contexts that have a share of the probability.

    Args:
        encoder_out: [B, T, D_enc].
        context_out: output of the prediction network after each label, [V, D_pred]; in row
            ``blank`` that at the beginning.
        joint: the joint network; its dropout is applied while it is training.
        targets: labels, [B, S]; padding may hold anything.
        encoder_lengths: frames of each sequence, [B].
        target_lengths: labels of each sequence, [B].
        bigram: log P_LM(w | v), [V, V + 1]: rows v with the beginning in row ``blank``, columns w
            with the end in the last one; finite (column ``blank`` is not read). It gets no
            gradient.
        blank: index of the blank.
        scale: k above.
        lm_scale: m above.
        reduction: ``none`` [B], ``sum``, or ``mean`` over sequences.
        infeasible: what a sequence with more labels than frames gives, see `FullSumArguments`.
        memory_budget: bytes for the temporaries of one chunk, as for `fused_full_sum_loss`.
        negligible: share of a frame's probability below which a context, V times over, adds nothing
            to the gradient; the default is the dtype's rounding.

    Returns:
        Loss in nats, [B] or scalar; not negative.

    Raises:
        ValueError: shapes, lengths, labels or options do not fit.
    """
    check_reduction(reduction)
    check_infeasible(infeasible)
    if scale <= 0.0 or lm_scale < 0.0:
        raise ValueError(f"lf_mmi needs scale > 0 and lm_scale >= 0, got {scale=} {lm_scale=}")
    _check(encoder_out, context_out, joint, targets, encoder_lengths, target_lengths, bigram, blank)
    encoder_out = inputs.without_padding(encoder_out, encoder_lengths)
    encoder = joint.project_encoder(encoder_out)  # [B, T, J]
    contexts = joint.project_prediction(context_out)  # [V, J]
    if len(encoder) == 0:
        return reduce_path_losses(encoder.sum((1, 2)), reduction, infeasible)
    labels = inputs.clean_targets(targets, target_lengths, (blank + 1) % len(contexts))
    reference = Reference(
        torch.nn.functional.pad(labels, (1, 0), value=blank),  # [B, S+1]
        encoder_lengths.to(encoder.device, torch.int64),
        target_lengths.to(encoder.device, torch.int64),
        blank,
    )
    fused = fused_options(joint, torch_engine(), memory_budget, negligible)
    output = (joint.output.weight, joint.output.bias)
    lm = lm_scale * bigram.detach().to(encoder.device)
    with torch.autocast(encoder.device.type, enabled=False):
        losses: Tensor = LFMMI.apply(
            encoder, contexts.expand(len(encoder), -1, -1), *output, reference, lm, scale, fused
        )
        return reduce_path_losses(losses, reduction, infeasible)


def _check(
    encoder_out: Tensor,
    context_out: Tensor,
    joint: JointNetwork,
    targets: Tensor,
    lengths: Tensor,
    target_lengths: Tensor,
    bigram: Tensor,
    blank: int,
) -> None:
    inputs.check_floating("encoder_out", encoder_out, 3)
    inputs.check_floating("context_out", context_out, 2)
    inputs.check_same_device(
        encoder_out=encoder_out, context_out=context_out, joint=joint.output.weight
    )
    vocab_size = joint.output.out_features
    if len(context_out) != vocab_size:
        raise ValueError(
            f"context_out has {len(context_out)} rows; the joint network knows {vocab_size} tokens"
        )
    grid = (encoder_out.shape[1], targets.shape[-1] + 1, vocab_size)
    check_full_sum_inputs(encoder_out, targets, lengths, target_lengths, grid, blank, None)
    if bigram.shape != (vocab_size, vocab_size + 1):
        raise ValueError(
            f"bigram has shape {tuple(bigram.shape)}; of {vocab_size} tokens it is "
            f"({vocab_size}, {vocab_size + 1}): the last column is the end of the sentence"
        )
