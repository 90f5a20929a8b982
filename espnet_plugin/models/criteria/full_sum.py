"""`--loss full_sum`: -log P(a|x) over all alignments (method.md, stage 2), or over some of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from espnet_plugin.losses import (
    Restriction,
    alignment_band,
    consistency_loss,
    encoder_full_sum_loss,
    fused_full_sum_loss,
    pruned_restriction,
    simple_full_sum_loss,
)
from espnet_plugin.losses.backends.registry import BACKENDS
from espnet_plugin.losses.options import FullSumOptions
from espnet_plugin.models.batch import Batch
from espnet_plugin.models.criteria.base import (
    Criterion,
    TransducerParts,
    check_max_frames,
    consistency_views,
    feasible,
    within_frames,
)
from espnet_plugin.pipeline.plan.losses import BUILT_IN


class FullSumCriterion(Criterion):
    """Full-sum transducer loss in the model's topology.

    What restricts or regularises the sum does so in training; the validation loss is -log P(a|x).

    Args:
        backend: of `fused_full_sum_loss`; "auto" takes the best one available.
        encoder_scale: weight of the encoder-only full-sum loss on the output layer of the encoder
            (0 as in the paper; from scratch it helps the encoder to take off).
        consistency_scale: weight of the consistency between two augmentations of each utterance,
            in the posteriors of the encoder's output layer (`consistency_loss`), which
            `encoder_scale` trains (CR-CTC beside a transducer: 0.1 and 0.02). The full sum is
            then over both.
        consistency_time_masks: with it, how many times as many time masks SpecAugment draws.
        max_frames: encoder frames above which a sequence is left out of training (paper: 600).
        normalization: see `Criterion`.
        band: [left, right], encoder frames by which a label may be emitted before and after its
            frame in the alignment, which the stage then needs (`alignment_band`).
        s_range: label positions per frame that are kept by pruning (`pruned_restriction`). Its
            simple joint network adds the encoder's output layer and the joint network without
            encoder; it has no parameters of its own.
        simple_scale: weight of the simple joint's full-sum loss (arXiv 2206.13236: 0.5).
        fastemit_lambda, delay_penalty: see `FullSumOptions`.

    Raises:
        ValueError: for a negative scale or regulariser, max_frames below 1, an impossible band or
            s_range or both of them, consistency of a layer that nothing trains, or a backend that
            cannot do it.
    """

    option_needs = BUILT_IN["full_sum"].option_needs

    def __init__(
        self,
        backend: str = "auto",
        encoder_scale: float = 0.0,
        consistency_scale: float = 0.0,
        consistency_time_masks: float = 2.5,
        max_frames: int | None = None,
        normalization: str = "sequences",
        band: Sequence[int] | None = None,
        s_range: int | None = None,
        simple_scale: float = 0.5,
        fastemit_lambda: float = 0.0,
        delay_penalty: float = 0.0,
    ) -> None:
        super().__init__(normalization)
        if min(encoder_scale, simple_scale) < 0:
            raise ValueError(
                f"loss_conf: negative loss weight: {encoder_scale=} {simple_scale=}, must be >= 0"
            )
        check_max_frames(max_frames)
        self.backend = backend
        self.encoder_scale = encoder_scale
        self.consistency_scale = consistency_scale
        self.views = consistency_views(consistency_scale, consistency_time_masks)
        if self.views is not None and encoder_scale == 0:
            raise ValueError(
                "loss_conf.consistency_scale compares posteriors of the encoder's output layer, "
                "which only encoder_scale trains: set that above 0, too (such as 0.1 with a "
                "consistency_scale of 0.02)"
            )
        self.max_frames = max_frames
        self.band = _checked_band(band)
        self.s_range = s_range
        self.simple_scale = simple_scale
        if s_range is not None and (band or s_range < 2):
            raise ValueError(
                f"loss_conf.s_range must be at least 2, and goes without a band; got {s_range=} "
                f"{band=}"
            )
        self.regularisers = {"fastemit_lambda": fastemit_lambda, "delay_penalty": delay_penalty}
        FullSumOptions(fastemit_lambda=fastemit_lambda, delay_penalty=delay_penalty)
        self._check_backend()

    def _check_backend(self) -> None:
        wanted = [name for name, value in self.regularisers.items() if value]
        wanted += ["restriction"] if self.band or self.s_range else []
        able = BACKENDS[self.backend].options if self.backend in BACKENDS else wanted
        lacking = [name for name in wanted if name not in able]
        if lacking:
            raise ValueError(f"loss_conf.backend: {self.backend!r} has no {', '.join(lacking)}")

    def losses(self, model: TransducerParts, batch: Batch) -> Tensor:
        """-log P(a|x) of each sequence [B], +inf where no alignment exists."""
        return self._fused(model, batch, model.prediction(batch.targets))

    def _fused(
        self, model: TransducerParts, batch: Batch, prediction: Tensor, **options: Any
    ) -> Tensor:
        """[B]; prediction [B, S+1, D]."""
        return fused_full_sum_loss(
            batch.encoder.frames,
            prediction,
            model.joint_network,
            batch.targets,
            batch.encoder.lengths,
            batch.target_lengths,
            backend=self.backend,
            **_kind(model),
            **options,
        )

    def training_losses(self, model: TransducerParts, batch: Batch) -> tuple[Tensor, Tensor | None]:
        """[B] of the restricted and regularised sum, and [B] of pruning's simple joint network."""
        prediction = model.prediction(batch.targets)
        restriction, simple = None, None
        if self.band is not None:
            restriction = _band(batch, model.blank_id, self.band)
        elif self.s_range is not None:
            restriction, simple = self._pruned(model, batch, prediction)
        losses = self._fused(model, batch, prediction, restriction=restriction, **self.regularisers)
        return losses, simple

    def _pruned(
        self, model: TransducerParts, batch: Batch, prediction: Tensor
    ) -> tuple[Restriction, Tensor]:
        """The cells that the simple joint network keeps, and its own losses [B]."""
        joint: Any = model.joint_network
        silence = prediction.new_zeros(joint.encoder_proj.in_features)
        parts: tuple[Tensor, Tensor, Tensor, Tensor, Tensor] = (
            model.encoder_logits(batch.encoder.frames),  # [B, T, V]
            joint.combine(joint.encoder_proj(silence), joint.project_prediction(prediction)),
            batch.targets,
            batch.encoder.lengths,
            batch.target_lengths,
        )
        assert self.s_range is not None
        kept = pruned_restriction(
            *parts, s_range=self.s_range, blank=model.blank_id, topology=model.topology
        )
        return kept, simple_full_sum_loss(*parts, **_kind(model))

    def __call__(
        self, model: TransducerParts, batch: Batch
    ) -> tuple[Tensor, dict[str, Tensor], Tensor]:
        """See `Criterion.__call__`."""
        simple = None
        if model.training:
            losses, simple = self.training_losses(model, batch)
        else:
            losses = self.losses(model, batch)
        used, stats = feasible(losses)
        within = within_frames(model, batch, self.max_frames, used.device)
        used = used if within is None else used & within
        loss = self.normalize(losses, batch, used)
        stats["loss_full_sum"] = loss.detach()
        further = [] if simple is None else [("loss_simple", self.simple_scale, simple)]
        if self.encoder_scale > 0:
            further += self._encoder_losses(model, batch)
        for name, scale, values in further:
            finite, _ = feasible(values)
            scaled = self.normalize(values, batch, used & finite)
            stats[name] = scaled.detach()
            loss = loss + scale * scaled
        return loss, stats, self.weight(batch, used)

    def _encoder_losses(
        self, model: TransducerParts, batch: Batch
    ) -> list[tuple[str, float, Tensor]]:
        """Losses [B] of the encoder's own output layer with names and weights.

        Its alignments are monotonic in every topology.
        """
        logits, lengths = model.encoder_logits(batch.encoder.frames), batch.encoder.lengths
        kind = {**_kind(model), "topology": "monotonic"}
        losses = encoder_full_sum_loss(logits, batch.targets, lengths, batch.target_lengths, **kind)
        found = [("loss_encoder", self.encoder_scale, losses)]
        if batch.views == 2:
            apart = consistency_loss(logits, lengths, reduction="none")
            found.append(("loss_consistency", self.consistency_scale, apart))
        return found


def _kind(model: TransducerParts) -> dict[str, Any]:
    """What all sums over the model's alignments have in common."""
    return {
        "blank": model.blank_id,
        "topology": model.topology,
        "reduction": "none",
        "infeasible": "inf",
    }


def _checked_band(band: Sequence[int] | None) -> tuple[int, int] | None:
    if band is None:
        return None
    if (
        isinstance(band, str)
        or len(band) != 2
        or any(type(frames) is not int or frames < 0 for frames in band)
    ):
        raise ValueError(
            "loss_conf.band must be [LEFT, RIGHT], encoder frames before and after a label's frame "
            f"in the alignment, both at least 0; got {band!r}"
        )
    return band[0], band[1]


def _band(batch: Batch, blank: int, buffers: tuple[int, int]) -> Restriction:
    """Alignments near the batch's own."""
    assert batch.alignment is not None
    steps = batch.encoder.lengths if batch.step_lengths is None else batch.step_lengths
    return alignment_band(
        batch.alignment,
        steps,
        batch.target_lengths,
        labels=batch.targets.size(1),
        blank=blank,
        left=buffers[0],
        right=buffers[1],
        step_frames=batch.step_frames,
        frames=batch.encoder.frames.size(1),
    )
