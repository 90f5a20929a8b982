"""`--loss full_sum`: -log P(a|x) over all alignments (method.md, stage 2)."""

from __future__ import annotations

from torch import Tensor

from espnet_plugin.losses import encoder_full_sum_loss, fused_full_sum_loss
from espnet_plugin.models.batch import Batch
from espnet_plugin.models.criteria.base import (
    Criterion,
    TransducerParts,
    check_max_frames,
    feasible,
    within_frames,
)


class FullSumCriterion(Criterion):
    """Full-sum transducer loss in the model's topology.

    Args:
        backend: of `fused_full_sum_loss`; "auto" takes the best one available.
        encoder_scale: weight of the encoder-only full-sum loss on the output layer of the encoder
            (0 as in the paper; from scratch it helps the encoder to take off).
        max_frames: encoder frames above which a sequence is left out of training (paper: 600).
        normalization: see `Criterion`.

    Raises:
        ValueError: for a negative scale or max_frames below 1.
    """

    def __init__(
        self,
        backend: str = "auto",
        encoder_scale: float = 0.0,
        max_frames: int | None = None,
        normalization: str = "sequences",
    ) -> None:
        super().__init__(normalization)
        if encoder_scale < 0:
            raise ValueError(f"loss_conf.encoder_scale must be >= 0, got {encoder_scale}")
        check_max_frames(max_frames)
        self.backend = backend
        self.encoder_scale = encoder_scale
        self.max_frames = max_frames

    def losses(self, model: TransducerParts, batch: Batch) -> Tensor:
        """-log P(a|x) of each sequence [B], +inf where no alignment exists."""
        return fused_full_sum_loss(
            batch.encoder.frames,
            model.prediction(batch.targets),
            model.joint_network,
            batch.targets,
            batch.encoder.lengths,
            batch.target_lengths,
            blank=model.blank_id,
            topology=model.topology,
            backend=self.backend,
            reduction="none",
            infeasible="inf",
        )

    def __call__(
        self, model: TransducerParts, batch: Batch
    ) -> tuple[Tensor, dict[str, Tensor], Tensor]:
        """See `Criterion.__call__`."""
        losses = self.losses(model, batch)
        used, stats = feasible(losses)
        within = within_frames(model, batch, self.max_frames, used.device)
        used = used if within is None else used & within
        loss = self.normalize(losses, batch, used)
        stats["loss_full_sum"] = loss.detach()
        if self.encoder_scale > 0:
            extra = encoder_full_sum_loss(
                model.encoder_logits(batch.encoder.frames),
                batch.targets,
                batch.encoder.lengths,
                batch.target_lengths,
                blank=model.blank_id,
                topology="monotonic",
                reduction="none",
                infeasible="inf",
            )
            encoder_used, _ = feasible(extra)
            scaled = self.normalize(extra, batch, used & encoder_used)
            stats["loss_encoder"] = scaled.detach()
            loss = loss + self.encoder_scale * scaled
        return loss, stats, self.weight(batch, used)
