"""Forced alignment on label-context-independent posteriors, strictly monotonic topology.

Every frame emits blank or exactly one label, there is no label loop (method.md, stage 0). With
q(v|t) = p(v|t) / prior(v)^prior_scale the best path obeys

    δ[0, 0] = 0,   δ[t+1, u] = max( δ[t, u] + log q(ε|t),  δ[t, u-1] + log q(a_u|t) ),

and the score is δ[T, S]. A path exists only when S <= T.

The recursion itself lives in :mod:`espnet_plugin.lattice`.

Shapes: B batch, T frames, S labels, U = S + 1 label positions, V vocabulary with blank.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from espnet_plugin.lattice import best_path, frame_labels, pack_steps

# A label never seen gets this share, so that dividing by its prior stays finite.
PRIOR_FLOOR = 1e-8


def forced_align(
    log_probs: Tensor,
    targets: Tensor,
    lengths: Tensor,
    target_lengths: Tensor,
    *,
    blank: int = 0,
    prior: Tensor | None = None,
    prior_scale: float = 0.3,
    infeasible: str = "error",
) -> tuple[Tensor, Tensor]:
    """Best strictly monotonic path of each target sequence through ``log_probs``.

    Args:
        log_probs: [B, T, V] natural-log posteriors of an encoder-only model (CTC or monotonic).
        targets: [B, S] labels; entries past ``target_lengths`` are ignored (any value, e.g. -1).
        lengths: [B] valid frames.
        target_lengths: [B] valid labels.
        blank: Index of blank.
        prior: [V] label prior. Probabilities; a tensor without positive entry is taken as their
            natural logarithm (what :class:`LabelPrior` returns).
        prior_scale: Exponent of the prior that the posteriors are divided by. 0.3 in the paper.
        infeasible: What to do with S > T: ``"error"`` or ``"skip"`` (all blank, score -inf).

    Returns:
        alignment [B, T] int64 (blank or label of each frame, blank past the end) and score [B],
        the maximised sum over frames, prior included.

    Raises:
        ValueError: S > T with ``infeasible="error"``, or shapes, lengths or labels that do not fit.
    """
    _check(log_probs, targets, lengths, target_lengths, blank)
    if infeasible == "error":
        raise_if_infeasible(lengths, target_lengths)
    elif infeasible != "skip":
        raise ValueError(f"infeasible must be 'error' or 'skip', got {infeasible!r}")

    scores = log_probs if log_probs.dtype == torch.float64 else log_probs.float()
    if prior is not None:
        scores = scores - prior_scale * _log_prior(prior, scores)
    batch, frames, _ = scores.shape
    in_target = torch.arange(targets.shape[1], device=scores.device) < target_lengths[:, None]
    labels = targets.masked_fill(~in_target, blank)  # [B, S]
    stay = scores[:, :, blank, None].expand(-1, -1, labels.shape[1] + 1)  # [B, T, U]
    move = scores.gather(2, labels[:, None, :].expand(batch, frames, -1))  # [B, T, S]
    emits, score = best_path(pack_steps(stay, move, lengths, target_lengths, "monotonic"))
    return frame_labels(emits, labels, blank), score.to(scores.dtype)


def _log_prior(prior: Tensor, like: Tensor) -> Tensor:
    """[V] -> [V] log prior, floored."""
    prior = prior.to(like)
    if prior.shape != like.shape[-1:]:
        raise ValueError(
            f"prior has shape {tuple(prior.shape)}, the posteriors {like.shape[-1]} labels"
        )
    if bool(torch.isnan(prior).any()):
        raise ValueError("prior contains NaN")
    probabilities = prior.exp() if bool((prior <= 0).all()) else prior
    if bool((probabilities < 0).any()):
        raise ValueError("prior mixes positive and negative entries: neither p nor log p")
    return probabilities.clamp_min(PRIOR_FLOOR).log()


def raise_if_infeasible(lengths: Tensor, target_lengths: Tensor) -> None:
    """Raise ValueError naming the sequences with more labels than frames.

    Raises:
        ValueError: There is one.
    """
    possible = target_lengths <= lengths
    if bool(possible.all()):
        return
    bad = (~possible).nonzero().flatten().tolist()
    detail = ", ".join(f"{i}: {int(target_lengths[i])} > {int(lengths[i])}" for i in bad[:10])
    raise ValueError(
        f"{len(bad)} of {len(possible)} sequences have more labels than frames (sequence index: "
        f"labels > frames; {detail}): no strictly monotonic alignment exists. Leave them out, "
        "subsample less, use longer labels, or pass infeasible='skip'"
    )


def _check(
    log_probs: Tensor, targets: Tensor, lengths: Tensor, target_lengths: Tensor, blank: int
) -> None:
    if log_probs.dim() != 3 or targets.dim() != 2 or targets.shape[0] != log_probs.shape[0]:
        raise ValueError(
            f"expected log_probs [B, T, V] and targets [B, S], got {tuple(log_probs.shape)} and "
            f"{tuple(targets.shape)}"
        )
    batch, frames, vocab = log_probs.shape
    if lengths.shape != (batch,) or target_lengths.shape != (batch,):
        raise ValueError(
            f"lengths {tuple(lengths.shape)} and target_lengths {tuple(target_lengths.shape)} "
            f"must both be [{batch}]"
        )
    if not 0 <= blank < vocab:
        raise ValueError(f"blank {blank} is outside of the vocabulary of {vocab}")
    if batch and (int(lengths.max()) > frames or int(target_lengths.max()) > targets.shape[1]):
        raise ValueError(
            f"lengths up to {int(lengths.max())} and target_lengths up to "
            f"{int(target_lengths.max())} exceed T={frames} or S={targets.shape[1]}"
        )
    if batch and (int(lengths.min()) < 0 or int(target_lengths.min()) < 0):
        raise ValueError("negative lengths")
    valid = torch.arange(targets.shape[1], device=targets.device) < target_lengths[:, None]
    wrong = valid & ((targets < 0) | (targets >= vocab) | (targets == blank))
    if bool(wrong.any()):
        row, column = wrong.nonzero()[0].tolist()
        raise ValueError(
            f"targets[{row}, {column}] = {int(targets[row, column])} is blank ({blank}) or outside "
            f"of the vocabulary of {vocab}"
        )


class LabelPrior:
    """Average posterior of a model over the training frames, accumulated batch by batch.

    This is the usual estimate of the label prior p(v) that :func:`forced_align` divides by.
    """

    def __init__(self, vocab_size: int) -> None:
        self._sum = torch.zeros(vocab_size, dtype=torch.float64)
        self._frames = 0

    def add(self, log_probs: Tensor, lengths: Tensor) -> None:
        """log_probs [B, T, V], lengths [B]."""
        inside = torch.arange(log_probs.shape[1], device=log_probs.device) < lengths[:, None]
        posteriors = log_probs.double().exp()[inside]  # [frames, V]
        self._sum += posteriors.sum(0).cpu()
        self._frames += posteriors.shape[0]

    def sums(self) -> tuple[list[float], int]:
        """Each label's sum of posteriors, and how many frames it is over."""
        return self._sum.tolist(), self._frames

    def add_sums(self, sums: Sequence[float], frames: int) -> None:
        """What another one's :meth:`sums` gave."""
        self._sum += torch.tensor(sums, dtype=torch.float64)
        self._frames += frames

    def log_prior(self) -> Tensor:
        """[V] float32 natural logarithms, floored at log 1e-8.

        Raises:
            ValueError: Nothing was added.
        """
        if self._frames == 0:
            raise ValueError("no frames were added: the label prior is undefined")
        return (self._sum / self._frames).clamp_min(PRIOR_FLOOR).log().float()


def estimate_log_prior(batches: Iterable[tuple[Tensor, Tensor]]) -> Tensor:
    """Log of the average posterior over (log_probs [B, T, V], lengths [B]) pairs -> [V].

    Raises:
        ValueError: There is no frame in ``batches``.
    """
    prior: LabelPrior | None = None
    for log_probs, lengths in batches:
        prior = prior or LabelPrior(log_probs.shape[-1])
        prior.add(log_probs, lengths)
    if prior is None:
        raise ValueError("no batches: the label prior is undefined")
    return prior.log_prior()
