"""`--loss mbr`: minimum Bayes risk over N-best lists (method.md, stage 3)."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from espnet_plugin.losses import mbr_loss
from espnet_plugin.models.batch import Batch
from espnet_plugin.models.criteria.base import (
    Criterion,
    TransducerParts,
    check_max_frames,
    feasible,
    within_frames,
)
from espnet_plugin.models.criteria.full_sum import FullSumCriterion
from espnet_plugin.pipeline.plan.losses import BUILT_IN


class MBRCriterion(Criterion):
    """Expected risk + ce_scale · full-sum loss of the reference.

    Hypotheses are scored one rank of the lists at a time; `fused_full_sum_loss` keeps two numbers
    per cell (t, u) of each until the backward pass, never N grids of the vocabulary's size.

    Args:
        scale: of the scores in the softmax over the list (paper: 2.5).
        ce_scale: weight of the reference's full-sum loss (paper: 0.05).
        backend: of `fused_full_sum_loss`.
        max_frames: encoder frames above which an utterance is left out of training; the pipeline
            makes no lists of those.
        normalization: see `Criterion`.

    Raises:
        ValueError: for a scale of 0 or below, or a negative ce_scale.
    """

    needs = BUILT_IN["mbr"].needs

    def __init__(
        self,
        scale: float = 2.5,
        ce_scale: float = 0.05,
        backend: str = "auto",
        max_frames: int | None = None,
        normalization: str = "sequences",
    ) -> None:
        super().__init__(normalization)
        if scale <= 0 or ce_scale < 0:
            raise ValueError(f"mbr needs scale > 0 and ce_scale >= 0, got {scale=} {ce_scale=}")
        check_max_frames(max_frames)
        self.max_frames = max_frames
        self.scale = scale
        self.ce_scale = ce_scale
        self.full_sum = FullSumCriterion(backend=backend, normalization=normalization)

    def __call__(
        self, model: TransducerParts, batch: Batch
    ) -> tuple[Tensor, dict[str, Tensor], Tensor]:
        """See `Criterion.__call__`. Validation data carries no lists: it gets the full-sum loss."""
        if batch.nbest is None:
            return self.full_sum(model, batch)
        nbest = batch.nbest
        columns = []
        for rank in range(nbest.tokens.size(1)):
            ranked = replace(
                batch, targets=nbest.tokens[:, rank], target_lengths=nbest.lengths[:, rank]
            )
            columns.append(-self.full_sum.losses(model, ranked))  # [B] log P(a_n|x)
        log_probs = torch.stack(columns, dim=1)  # [B, N]
        risks = mbr_loss(
            log_probs,
            nbest.risks,
            lm_scores=nbest.lm_scores,
            scale=self.scale,
            mask=nbest.mask & torch.isfinite(log_probs.detach()),
            reduction="none",
        )  # [B]
        within = within_frames(model, batch, self.max_frames, risks.device)
        loss = self.normalize(risks, batch, within)
        stats = {"loss_mbr": loss.detach()}
        if self.ce_scale > 0:
            reference = self.full_sum.losses(model, batch)
            used, more = feasible(reference)
            used = used if within is None else used & within
            extra = self.normalize(reference, batch, used)
            loss = loss + self.ce_scale * extra
            stats.update(more, loss_full_sum=extra.detach())
        return loss, stats, self.weight(batch, within)
