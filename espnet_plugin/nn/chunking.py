"""Cutting utterances into overlapping windows for the Viterbi stage (method.md, stage 1).

Shape legend: B batch, T' feature frames, F features, C chunks, c encoder frames per chunk.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Subsampling:
    """Encoder frames as a function of feature frames: T = floor((T' - offset) / factor).

    Attributes:
        factor: feature frames per encoder frame.
        offset: feature frames lost at the borders (negative when the encoder pads).
    """

    factor: int
    offset: int

    def encoder_frames(self, feature_frames: int) -> int:
        """T for T' (0 when the utterance is too short)."""
        return max((feature_frames - self.offset) // self.factor, 0)

    def feature_span(self, encoder_frames: int) -> int:
        """Feature frames that yield exactly `encoder_frames` frames."""
        return encoder_frames * self.factor + max(self.offset, 0)


@dataclass(frozen=True)
class Chunks:
    """Index of the windows cut from a batch.

    Attributes:
        utterance: [C] which utterance of the batch a chunk was cut from.
        start: [C] first encoder frame of the chunk.
        size: [C] encoder frames in the chunk (at most the window).
    """

    utterance: Tensor
    start: Tensor
    size: Tensor


def chunk_index(
    encoder_frames: list[int], window: int, hop: int, device: torch.device, tail: bool = False
) -> Chunks:
    """Windows of `window` frames every `hop` frames; the last one ends with the utterance.

    Args:
        tail: go on until a window would begin beyond the utterance, as RETURNN does: the last
            windows then hold nothing that the one before them does not.

    Raises:
        ValueError: unless 0 < hop <= window.
    """
    if not 0 < hop <= window:
        raise ValueError(f"chunking needs 0 < hop <= window, got window={window} hop={hop}")
    rows: list[tuple[int, int, int]] = []
    for utterance, frames in enumerate(encoder_frames):
        start = 0
        while True:
            rows.append((utterance, start, min(window, frames - start)))
            end = start + (hop if tail else window)
            if end >= frames:
                break
            start += hop
    index = torch.tensor(rows, dtype=torch.long, device=device)  # [C, 3]
    return Chunks(index[:, 0], index[:, 1], index[:, 2])


def cut_features(
    feats: Tensor, feats_lengths: Tensor, chunks: Chunks, subsampling: Subsampling, window: int
) -> tuple[Tensor, Tensor]:
    """feats [B, T', F] -> chunks [C, span, F] and their lengths [C] in feature frames.

    A chunk holds just the features its own encoder frames need, so that encoder frame i of the
    chunk is frame start + i of the utterance, with less context at the borders.
    """
    span = subsampling.feature_span(window)
    first = chunks.start * subsampling.factor  # [C]
    index = first[:, None] + torch.arange(span, device=feats.device)  # [C, span]
    index = index.clamp(max=feats.size(1) - 1)
    cut = feats[chunks.utterance[:, None], index]  # [C, span, F]
    lengths = (feats_lengths[chunks.utterance] - first).clamp(max=span)  # [C]
    return cut, lengths


def cut_frames(frames: Tensor, chunks: Chunks, window: int) -> Tensor:
    """Per-encoder-frame data [B, T, ...] -> [C, c, ...]; rows beyond a chunk's size are padding."""
    index = chunks.start[:, None] + torch.arange(window, device=frames.device)  # [C, c]
    index = index.clamp(max=frames.size(1) - 1)
    return frames[chunks.utterance[:, None], index]
