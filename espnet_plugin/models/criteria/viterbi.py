"""`--loss viterbi`: frame-wise cross entropy on a fixed alignment (method.md, stage 1)."""

from __future__ import annotations

import torch
from torch import Tensor

from espnet_plugin.losses import encoder_ce_loss, viterbi_loss
from espnet_plugin.models.batch import Batch
from espnet_plugin.models.criteria.base import Chunking, Criterion, TransducerParts
from espnet_plugin.pipeline.plan.losses import BUILT_IN


class ViterbiCriterion(Criterion):
    """L1 + encoder_scale · L_enc(top) + intermediate_scale · L_enc(each intermediate block).

    Only the cells on the path reach the joint network: T in the monotonic topology, T + S in
    `rnnt`, where a frame's labels come one step each before the blank that ends it. L_enc asks for
    the labels of a frame, and for blank only where it has none, in both.

    Args:
        label_smoothing: of the cross entropy (paper: 0.2).
        boost: weight of the additional loss of the label frames (paper: 5.0).
        encoder_scale: weight of the focal cross entropy at the top block (paper: 1.0).
        intermediate_scale: the same at the intermediate blocks (paper: 0.3, block 6).
        focal: focal exponent of L_enc (paper: 1.0).
        chunk_size: encoder frames per training window (paper: 64); 0 trains on whole utterances.
        chunk_hop: encoder frames between windows (paper: 32).
        chunk_tail: cut windows until the utterance's end, also those that the window before them
            covers (RETURNN's way: one every chunk_hop frames).
        chunk_specaug: SpecAugment masks every window by itself (the source's way) instead of the
            utterance before it is cut. What changes the time axis stays with the utterance.
        normalization: see `Criterion`.

    Raises:
        ValueError: for negative weights or an impossible chunking.
    """

    needs = BUILT_IN["viterbi"].needs

    def __init__(
        self,
        label_smoothing: float = 0.2,
        boost: float = 5.0,
        encoder_scale: float = 1.0,
        intermediate_scale: float = 0.3,
        focal: float = 1.0,
        chunk_size: int = 64,
        chunk_hop: int = 32,
        chunk_tail: bool = False,
        chunk_specaug: bool = False,
        normalization: str = "sequences",
    ) -> None:
        super().__init__(normalization)
        if min(encoder_scale, intermediate_scale) < 0:
            raise ValueError(f"negative loss weight: {encoder_scale=} {intermediate_scale=}")
        if chunk_size and not 0 < chunk_hop <= chunk_size:
            raise ValueError(f"needs 0 < chunk_hop <= chunk_size: {chunk_hop=} {chunk_size=}")
        self.label_smoothing = label_smoothing
        self.boost = boost
        self.encoder_scale = encoder_scale
        self.intermediate_scale = intermediate_scale
        self.focal = focal
        if not chunk_size and (chunk_tail or chunk_specaug):
            raise ValueError("chunk_tail and chunk_specaug need windows: set chunk_size")
        windows = Chunking(chunk_size, chunk_hop, chunk_tail, chunk_specaug)
        self.chunking = windows if chunk_size else None

    def _path_logits(self, model: TransducerParts, batch: Batch) -> Tensor:
        """Joint network on the path: [B', P, V]."""
        assert batch.states is not None
        prediction = model.prediction(batch.targets)  # [B, S+1, D]
        states = batch.states  # [B', P]
        rows = torch.arange(len(states), device=states.device)[:, None]
        frames = batch.encoder.frames
        if batch.step_frames is not None:
            frames = frames[rows, batch.step_frames]  # [B', P, D]
        if batch.utterance is not None:
            rows = batch.utterance[:, None]
        return model.joint_network(frames, prediction[rows, states])

    def __call__(
        self, model: TransducerParts, batch: Batch
    ) -> tuple[Tensor, dict[str, Tensor], Tensor]:
        """See `Criterion.__call__`."""
        assert batch.alignment is not None
        lengths = batch.encoder.lengths if batch.step_lengths is None else batch.step_lengths
        losses = viterbi_loss(
            self._path_logits(model, batch),
            batch.alignment,
            lengths,
            blank=model.blank_id,
            label_smoothing=self.label_smoothing,
            boost=self.boost,
            reduction="none",
        )  # [B']
        loss = self.normalize(losses, batch)
        stats = {"loss_viterbi": loss.detach()}
        if self.encoder_scale > 0:
            logits = model.encoder_logits(batch.encoder.frames)
            top = self._encoder_loss(logits, batch)
            loss = loss + self.encoder_scale * top
            stats["loss_encoder"] = top.detach()
        if self.intermediate_scale > 0:
            for layer, frames in batch.encoder.intermediate.items():
                logits = model.intermediate_logits(frames, layer)
                loss = loss + self.intermediate_scale * self._encoder_loss(logits, batch)
        return loss, stats, self.weight(batch)

    def _encoder_loss(self, logits: Tensor, batch: Batch) -> Tensor:
        assert batch.alignment is not None
        alignment, lengths, frames = batch.alignment, batch.encoder.lengths, None
        if batch.step_lengths is not None and batch.step_frames is not None:
            lengths = batch.step_lengths
            follows = torch.zeros_like(alignment, dtype=torch.bool)
            follows[:, 1:] = (alignment[:, 1:] == 0) & (alignment[:, :-1] != 0)
            # The blank that ends a frame with labels is no symbol of the frame.
            frames = batch.step_frames.masked_fill(follows, -1)
        losses = encoder_ce_loss(
            logits, alignment, lengths, frames=frames, focal=self.focal, reduction="none"
        )
        return self.normalize(losses, batch)
