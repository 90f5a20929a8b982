"""Emission frames of recognised labels from the best path, instead of the beam's own guess.

In full-sum search a label has no one frame; the beam notes the one in which most of its probability
came in, as far as it kept the paths. The best path of the finished sequence is exact.

Shapes: B utterances, T frames, S labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from espnet_plugin.search.align.realign import forced_align_transducer

Frames = tuple[int, ...]


def exact_frames(
    tokens: Sequence[Sequence[int]],
    encoder_out: Tensor,
    lengths: Tensor,
    prediction: Any,
    joint: Any,
    *,
    topology: str = "monotonic",
    blank: int = 0,
) -> list[Frames | None]:
    """Encoder frame of every label on the best path of each sequence.

    Args:
        tokens: One label sequence per utterance, without blank.
        encoder_out: [B, T, D_enc].
        lengths: [B].
        prediction: Prediction network.
        joint: Joint network.
        topology: ``"monotonic"`` or ``"rnnt"``.
        blank: Index of blank.

    Returns:
        As many frames as labels per utterance; None for a sequence longer than its audio.
    """
    sizes = [len(sequence) for sequence in tokens]
    if not any(sizes):
        return [() for _ in tokens]
    targets = torch.full((len(sizes), max(sizes)), blank, device=encoder_out.device)
    for row, sequence in zip(targets, tokens, strict=True):
        row[: len(sequence)] = torch.tensor(sequence, dtype=torch.int64, device=row.device)
    target_lengths = torch.tensor(sizes, device=encoder_out.device)
    path, score = forced_align_transducer(
        encoder_out,
        prediction,
        joint,
        targets,
        lengths,
        target_lengths,
        topology=topology,
        blank=blank,
        infeasible="skip",
    )
    possible = torch.isfinite(score).tolist()
    rows = zip(path.tolist(), sizes, possible, strict=True)
    return [_frames(row, size, topology, blank) if ok else None for row, size, ok in rows]


def _frames(path: Sequence[int], labels: int, topology: str, blank: int) -> Frames:
    """A path's steps -> frames of its labels; only blanks consume a frame in ``rnnt``."""
    frames: list[int] = []
    for step, symbol in enumerate(path):
        if symbol != blank:
            frames.append(step if topology == "monotonic" else step - len(frames))
    assert len(frames) == labels, f"{len(frames)} labels on the path of {labels}"
    return tuple(frames)
