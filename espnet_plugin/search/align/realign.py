"""Forced alignment with the transducer itself (re-alignment), both topologies.

Viterbi over the transducer's own lattice: the probabilities depend on the label position, so the
grid of T x (S+1) cells is needed, but only the blank and the next label of every cell; the
V-sized logits exist for a chunk of frames at a time.

Shapes: B batch, T frames, S labels, V vocabulary with blank, D model sizes.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from espnet_plugin.lattice import best_path, check_topology, frame_labels, pack_steps
from espnet_plugin.search.align.forced_align import raise_if_infeasible

# Logits in memory at a time: 64 MB of float32.
MAX_LOGITS = 16_000_000


@torch.no_grad()
def forced_align_transducer(
    encoder_out: Tensor,
    prediction: Any,
    joint: Any,
    targets: Tensor,
    lengths: Tensor,
    target_lengths: Tensor,
    *,
    topology: str = "monotonic",
    blank: int = 0,
    infeasible: str = "error",
) -> tuple[Tensor, Tensor]:
    """Best path of each target sequence through the transducer's lattice.

    Args:
        encoder_out: [B, T, D_enc].
        prediction: Prediction network.
        joint: Joint network.
        targets: [B, S]; entries past ``target_lengths`` are ignored.
        lengths: [B].
        target_lengths: [B].
        topology: ``"monotonic"`` or ``"rnnt"``.
        blank: Index of blank.
        infeasible: ``"error"`` or ``"skip"`` (all blank, score -inf) for monotonic S > T.

    Returns:
        alignment and score [B], the path's log-probability. The alignment is [B, T], blank or label
        of every frame, for ``monotonic``; for ``rnnt`` it is [B, T+S], one entry per *step* (blank
        ends a frame). Blank past the end.

    Raises:
        ValueError: S > T in the monotonic topology, or an unknown topology.
    """
    check_topology(topology)
    if infeasible not in ("error", "skip"):
        raise ValueError(f"infeasible must be 'error' or 'skip', got {infeasible!r}")
    if topology == "monotonic" and infeasible == "error":
        raise_if_infeasible(lengths, target_lengths)
    in_target = torch.arange(targets.shape[1], device=targets.device) < target_lengths[:, None]
    labels = targets.masked_fill(~in_target, blank)  # [B, S]
    stay, move = transducer_arcs(encoder_out, prediction, joint, labels, blank=blank)
    emits, score = best_path(pack_steps(stay, move, lengths, target_lengths, topology))
    return frame_labels(emits, labels, blank), score.to(stay.dtype)


def transducer_arcs(
    encoder_out: Tensor, prediction: Any, joint: Any, targets: Tensor, *, blank: int = 0
) -> tuple[Tensor, Tensor]:
    """log p(ε|t,u) [B, T, S+1] and log p(a_{u+1}|t,u) [B, T, S] of the whole grid."""
    batch, frames, _ = encoder_out.shape
    symbols = targets.shape[1]
    encoder = joint.encoder_proj(encoder_out)  # [B, T, J]
    predicted = joint.prediction_proj(prediction(targets))  # [B, S+1, J]
    vocab = joint.output.weight.shape[0]
    dtype = torch.promote_types(encoder.dtype, torch.float32)
    stay = encoder.new_empty(batch, frames, symbols + 1, dtype=dtype)
    move = encoder.new_empty(batch, frames, symbols, dtype=dtype)
    chunk = max(1, MAX_LOGITS // (vocab * (symbols + 1)))
    for b in range(batch):
        for start in range(0, frames, chunk):
            span = slice(start, start + chunk)
            logits = joint.combine(encoder[b, span, None], predicted[b])  # [t, S+1, V]
            norm = logits.to(dtype).logsumexp(-1)  # [t, S+1]
            stay[b, span] = logits[..., blank] - norm
            index = targets[b].expand(logits.shape[0], -1)[..., None]  # [t, S, 1]
            move[b, span] = logits[:, :-1].gather(2, index).squeeze(2) - norm[:, :-1]
    return stay, move
