"""`--loss ctc`: the aligner of stage 0, trained on the encoder's output layer alone."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from espnet_plugin.losses import consistency_loss, ctc_loss, encoder_full_sum_loss
from espnet_plugin.losses.variant_full_sum import variant_full_sum_loss
from espnet_plugin.models.batch import Batch
from espnet_plugin.models.criteria.base import (
    Criterion,
    TransducerParts,
    consistency_views,
    feasible,
)
from espnet_plugin.pipeline.plan.losses import BUILT_IN


class CTCCriterion(Criterion):
    """Aligner criterion.

    Args:
        topology: "monotonic" sums over strictly monotonic alignments (no label loop), the topology
            the forced alignment uses, so the aligner learns what it is asked for; "ctc" is CTC
            with label loops (the paper's aligner).
        intermediate_scale: weight of the same loss on each intermediate block (0: none).
        consistency_scale: weight of the consistency between two augmentations of each utterance
            (`consistency_loss`; CR-CTC: 0.2); 0 trains on one augmentation.
        consistency_time_masks: with it, how many times as many time masks SpecAugment draws
            (CR-CTC: 2.5).
        variants: sum over all pronunciation variants of all words; needs labels of a lexicon.
        normalization: see `Criterion`.

    Raises:
        ValueError: for an unknown topology, a negative scale, or less than no time masks.
    """

    option_needs = BUILT_IN["ctc"].option_needs
    searches_encoder = BUILT_IN["ctc"].searches_encoder

    def __init__(
        self,
        topology: str = "monotonic",
        intermediate_scale: float = 0.0,
        consistency_scale: float = 0.0,
        consistency_time_masks: float = 2.5,
        variants: bool = False,
        normalization: str = "sequences",
    ) -> None:
        super().__init__(normalization)
        if topology not in ("monotonic", "ctc"):
            raise ValueError(f"loss_conf.topology must be 'monotonic' or 'ctc', got {topology!r}")
        if intermediate_scale < 0:
            raise ValueError(f"intermediate_scale must be >= 0, got {intermediate_scale}")
        if variants and topology != "monotonic":
            raise ValueError("loss_conf.variants needs topology: monotonic")
        self.topology = topology
        self.consistency_scale = consistency_scale
        self.views = consistency_views(consistency_scale, consistency_time_masks)
        self.intermediate_scale = intermediate_scale

    def _loss(self, logits: Tensor, model: TransducerParts, batch: Batch) -> Tensor:
        lengths = (batch.encoder.lengths, batch.target_lengths)
        if batch.graph is not None:
            return variant_full_sum_loss(
                logits,
                batch.graph,
                batch.encoder.lengths,
                blank=model.blank_id,
                reduction="none",
                infeasible="inf",
            )
        options: dict[str, Any] = {
            "blank": model.blank_id,
            "reduction": "none",
            "infeasible": "inf",
        }
        if self.topology == "ctc":
            return ctc_loss(logits, batch.targets, *lengths, **options)
        return encoder_full_sum_loss(
            logits, batch.targets, *lengths, topology="monotonic", **options
        )

    def __call__(
        self, model: TransducerParts, batch: Batch
    ) -> tuple[Tensor, dict[str, Tensor], Tensor]:
        """See `Criterion.__call__`."""
        logits = model.encoder_logits(batch.encoder.frames)
        losses = self._loss(logits, model, batch)  # [B]
        used, stats = feasible(losses)
        loss = self.normalize(losses, batch, used)
        stats["loss_ctc"] = loss.detach()
        if batch.views == 2:
            apart = consistency_loss(logits, batch.encoder.lengths, reduction="none")  # [B]
            extra = self.normalize(apart, batch, used)
            loss = loss + self.consistency_scale * extra
            stats["loss_consistency"] = extra.detach()
        if self.intermediate_scale > 0:
            for layer, frames in batch.encoder.intermediate.items():
                logits = model.intermediate_logits(frames, layer)
                extra = self.normalize(self._loss(logits, model, batch), batch, used)
                loss = loss + self.intermediate_scale * extra
        return loss, stats, self.weight(batch, used)
