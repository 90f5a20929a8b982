"""Lattice-free maximum mutual information of a context-1 transducer, exact over all sequences.

Shapes: B batch, T frames, S labels, V vocabulary with blank, D sizes of encoder and prediction.

    L = -log  P(a|x)^k P_LM(a)^m / sum_{a'} P(a'|x)^k P_LM(a')^m          (k scale, m lm_scale)

over all label sequences a' of any length (Yang, Zhou, Schlueter and Ney, "Lattice-free sequence
discriminative training for phoneme-based neural transducers", arXiv 2212.04325). P(a|x)^k stands
for the sum over alignments of the product of the arcs' p^k. In the ``monotonic`` topology with a
prediction network of context 1 and a bigram language model, a state is the last label v alone
(blank: none yet), and the sum is

    A_0(blank) = 1
    A_{t+1}(v) = A_t(v) p(blank | t, v)^k + sum_u A_t(u) p(v | t, u)^k P_LM(v | u)^m
    sum = sum_v A_T(v) P_LM(end | v)^m

where v is a label in the second sum, as nothing leads back to the beginning.

With k = 1 and m = 0 it is 1, and L is the full-sum loss. No lists and no search: what competes
with the reference is everything.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from espnet_plugin.lattice import lattice_log_prob
from espnet_plugin.losses import inputs
from espnet_plugin.losses.full_sum import check_full_sum_inputs
from espnet_plugin.losses.reduction import check_infeasible, check_reduction, reduce_path_losses

#: Bytes for the scores of one chunk of frames.
MEMORY_BUDGET = 1 << 28
_NEVER = -1e30  # in the place of log 0, whose differences are NaN

Joint = Callable[[Tensor, Tensor], Tensor]


def lf_mmi_loss(
    encoder_out: Tensor,
    context_out: Tensor,
    joint: Joint,
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
    memory_budget: int = MEMORY_BUDGET,
) -> Tensor:
    """The loss L of the module's docstring.

    Args:
        encoder_out: [B, T, D_enc].
        context_out: output of the prediction network after each label, [V, D_pred]; in row
            ``blank`` that at the beginning.
        joint: broadcasts [B, n, 1, D_enc] and [V, D_pred] to logits [B, n, V, V].
        targets: labels, [B, S]; padding may hold anything.
        encoder_lengths: frames of each sequence, [B].
        target_lengths: labels of each sequence, [B].
        bigram: log P_LM(w | v), [V, V + 1]: rows v with the beginning in row ``blank``, columns w
            with the end in the last one; finite (column ``blank`` is not read).
        blank: index of the blank.
        scale: k above.
        lm_scale: m above.
        reduction: ``none`` [B], ``sum``, or ``mean`` over sequences.
        infeasible: what a sequence with more labels than frames gives, see `FullSumArguments`.
        memory_budget: bytes for the scores of one chunk of frames, which the backward pass
            computes again.

    Returns:
        Loss in nats, [B] or scalar; not negative.

    Raises:
        ValueError: shapes, lengths, labels or options do not fit.
    """
    check_reduction(reduction)
    check_infeasible(infeasible)
    vocab_size = len(context_out)
    _check(encoder_out, targets, encoder_lengths, target_lengths, bigram, vocab_size, blank)
    if scale <= 0.0 or lm_scale < 0.0:
        raise ValueError(f"lf_mmi needs scale > 0 and lm_scale >= 0, got {scale=} {lm_scale=}")
    if len(encoder_out) == 0:
        return reduce_path_losses(encoder_out.sum((1, 2)), reduction, infeasible)
    encoder_out = inputs.without_padding(encoder_out, encoder_lengths)
    labels = inputs.clean_targets(targets, target_lengths, (blank + 1) % vocab_size)
    history = torch.nn.functional.pad(labels, (1, 0), value=blank)  # [B, S+1]
    lm = bigram.to(encoder_out) if encoder_out.dtype == torch.float64 else bigram.float()
    lm = lm_scale * lm.to(encoder_out.device)  # [V, V+1]
    chunk = _Chunk(joint, history, lm, encoder_lengths, blank, scale)
    total = lm.new_full((len(encoder_out), vocab_size), _NEVER)
    total[:, blank] = 0.0  # [B, V] log A_0
    blanks, moves = [], []
    frames = _frames_per_chunk(len(encoder_out), vocab_size, lm.element_size(), memory_budget)
    for start in range(0, encoder_out.shape[1], frames):
        part = encoder_out[:, start : start + frames]
        total, blank_arcs, label_arcs = checkpoint(
            chunk, part, context_out, total, start, use_reentrant=False
        )
        blanks.append(blank_arcs)
        moves.append(label_arcs)
    everything = (total + lm[:, -1]).logsumexp(1)  # [B]
    arcs = (torch.cat(blanks, 1), torch.cat(moves, 1))  # [B, T, S+1], [B, T, S]
    reference = lattice_log_prob(*arcs, encoder_lengths, target_lengths)
    losses = everything - reference - _language_model(history, lm, target_lengths)
    impossible = torch.isinf(reference.detach())
    # Not inf - inf of its gradient: the sum over everything is finite, and nothing to learn from.
    losses = torch.where(impossible, torch.full_like(losses, float("inf")), losses)
    return reduce_path_losses(losses, reduction, infeasible)


class _Chunk:
    """The recursion over some frames, and the reference's arcs in them."""

    def __init__(
        self,
        joint: Joint,
        history: Tensor,
        lm: Tensor,
        lengths: Tensor,
        blank: int,
        scale: float,
    ) -> None:
        self.joint, self.history, self.lm = joint, history, lm
        self.lengths, self.blank, self.scale = lengths, blank, scale

    def __call__(
        self, encoder_out: Tensor, context_out: Tensor, total: Tensor, start: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """[B, n, D], [V, D], log A [B, V] -> log A, and arcs [B, n, S+1] and [B, n, S]."""
        logits = self.joint(encoder_out[:, :, None], context_out)  # [B, n, V, V]
        with torch.autocast(logits.device.type, enabled=False):
            scores = self.scale * logits.to(self.lm.dtype).log_softmax(-1)
            stay = scores[..., self.blank]  # [B, n, V]
            move = scores + self.lm[:, :-1]
            never = torch.arange(move.shape[-1], device=move.device) == self.blank
            move = move.masked_fill(never, _NEVER)
            for frame in range(scores.shape[1]):
                into = (total[:, :, None] + move[:, frame]).logsumexp(1)  # [B, V]
                after = torch.logaddexp(total + stay[:, frame], into)
                inside = (start + frame < self.lengths.to(total.device))[:, None]
                total = torch.where(inside, after, total)
            return total, *self._reference(scores, stay)

    def _reference(self, scores: Tensor, stay: Tensor) -> tuple[Tensor, Tensor]:
        batch, frames, size = stay.shape
        history = self.history
        blanks = stay.gather(2, history[:, None].expand(batch, frames, -1))
        arcs = history[:, :-1] * size + history[:, 1:]  # [B, S] of the V * V
        return blanks, scores.flatten(2).gather(2, arcs[:, None].expand(batch, frames, -1))


def _language_model(history: Tensor, lm: Tensor, target_lengths: Tensor) -> Tensor:
    """lm_scale * log P_LM of the references, ends included, [B]."""
    steps = lm[history[:, :-1], history[:, 1:]]  # [B, S]
    positions = torch.arange(steps.shape[1], device=steps.device)
    lengths = target_lengths.to(steps.device)
    inside = positions < lengths[:, None]
    last = history.gather(1, lengths.long()[:, None]).squeeze(1)  # [B]
    return steps.masked_fill(~inside, 0.0).sum(1) + lm[last, -1]


def _frames_per_chunk(batch: int, vocab_size: int, item: int, budget: int) -> int:
    # logits, log-probabilities, and arcs of a frame
    return max(1, budget // (4 * batch * vocab_size * vocab_size * item))


def _check(
    encoder_out: Tensor,
    targets: Tensor,
    lengths: Tensor,
    target_lengths: Tensor,
    bigram: Tensor,
    vocab_size: int,
    blank: int,
) -> None:
    inputs.check_floating("encoder_out", encoder_out, 3)
    grid = (encoder_out.shape[1], targets.shape[-1] + 1, vocab_size)
    check_full_sum_inputs(encoder_out, targets, lengths, target_lengths, grid, blank, None)
    if bigram.shape != (vocab_size, vocab_size + 1):
        raise ValueError(
            f"bigram has shape {tuple(bigram.shape)}; of {vocab_size} tokens it is "
            f"({vocab_size}, {vocab_size + 1}): the last column is the end of the sentence"
        )
