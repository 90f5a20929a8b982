"""Greedy search: the best symbol of every step, batched over utterances, both topologies.

Shapes: B utterances, T frames, V vocabulary with blank, J joint size.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from espnet_plugin.lattice import check_topology
from espnet_plugin.search.beam.history import HistoryTree
from espnet_plugin.search.beam.packed_frames import packed_frames
from espnet_plugin.search.beam.prediction_cache import make_prediction_cache
from espnet_plugin.search.hypothesis import Hypothesis


@torch.no_grad()
def greedy_search(
    encoder_out: Tensor,
    lengths: Tensor,
    prediction: Any,
    joint: Any,
    *,
    topology: str = "monotonic",
    blank: int = 0,
    max_symbols: int = 5,
    blank_penalty: float = 0.0,
) -> list[Hypothesis]:
    """One hypothesis per utterance; its score is that of the single path taken.

    Args:
        encoder_out: [B, T, D_enc].
        lengths: [B] valid frames.
        prediction: Prediction network.
        joint: Joint network.
        topology: ``"monotonic"`` or ``"rnnt"``.
        blank: Index of blank.
        max_symbols: Most labels per frame in the ``rnnt`` topology.
        blank_penalty: Subtracted from log p(ε) everywhere, scores included.

    Raises:
        ValueError: An unknown topology, ``max_symbols`` < 1, or lengths that do not fit.
    """
    check_topology(topology)
    if max_symbols < 1:
        raise ValueError(f"max_symbols must be at least 1, got {max_symbols}")
    batch, device = encoder_out.shape[0], encoder_out.device
    cache = make_prediction_cache(prediction, joint, blank=blank)
    packed, first, lengths = packed_frames(encoder_out, lengths)
    encoder = joint.encoder_proj(packed)  # [F, J]
    state = cache.start(batch)
    history = HistoryTree(device)
    node = torch.zeros(batch, dtype=torch.int64, device=device)
    score = torch.zeros(batch, dtype=torch.float64, device=device)
    # Every utterance goes through its frames at its own pace: it leaves one when it says so.
    frame, on_frame = torch.zeros_like(lengths), torch.zeros_like(lengths)
    while bool((running := frame < lengths).any()):
        projected = cache.projected(state)
        here = encoder.index_select(0, (first + frame).clamp_max(encoder.shape[0] - 1))  # [B, J]
        log_probs = _step(joint, here, projected, blank, blank_penalty)  # [B, V]
        best, label = log_probs.max(-1)
        if topology == "rnnt":
            full = on_frame == max_symbols  # the frame has to end
            best = torch.where(full, log_probs[:, blank], best)
            label = label.masked_fill(full, blank)
        score += torch.where(running, best.double(), 0.0)
        emitted = running & (label != blank)
        node = history.add(node, node, label, frame, emitted)
        state = cache.advance(state, label, emitted)
        stays = emitted if topology == "rnnt" else torch.zeros_like(emitted)
        frame = frame + (running & ~stays)
        on_frame = (on_frame + 1) * stays
    return [
        Hypothesis(tokens, value, value, frames=frames)
        for (tokens, frames), value in zip(history.read(node), score.tolist(), strict=True)
    ]


def _step(joint: Any, encoder: Tensor, projected: Tensor, blank: int, penalty: float) -> Tensor:
    """[B, J], [B, J] -> log-probabilities [B, V], penalty applied."""
    logits = joint.combine(encoder, projected)
    result: Tensor = logits.to(torch.promote_types(logits.dtype, torch.float32)).log_softmax(-1)
    if penalty:
        result[:, blank] -= penalty
    return result
