"""Features of a stream, as soon as the samples that they depend on are there.

Shapes: L samples, T' feature frames, F features.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from espnet2.asr.frontend.default import DefaultFrontend
from espnet2.layers.global_mvn import GlobalMVN
from torch import Tensor

from espnet_plugin.models.kaldi_fbank import KaldiFbank
from espnet_plugin.models.progressive import ProgressiveTransducerModel


@dataclass(frozen=True)
class Reach:
    """Which samples a frame is made of: frame t of [hop * t - before, hop * t + after)."""

    hop: int
    before: int
    after: int


def check_streams(model: ProgressiveTransducerModel) -> None:
    """Refuse models that need more than the past.

    Raises:
        ValueError: naming the part.
    """
    encoder: Any = model.encoder
    if getattr(encoder, "chunks", None) is None:
        raise ValueError(
            f"this model ({type(encoder).__name__}) sees whole utterances and cannot stream: train "
            "one with encoder: progressive_conformer and encoder_conf: {chunk_sizes: [4, 8, 16, "
            "0], left_context: 64} (docs/streaming.md)"
        )
    if model.criterion.searches_encoder:
        raise ValueError("this model is an aligner: its transducer is not trained yet")
    if model.normalize is not None and not isinstance(model.normalize, GlobalMVN):
        raise ValueError(
            f"{type(model.normalize).__name__} needs the whole utterance: a model that streams is "
            "trained with normalize: global_mvn or null"
        )
    for name in ("preencoder", "postencoder"):
        if getattr(model, name) is not None:
            raise ValueError(f"{name} {type(getattr(model, name)).__name__} cannot stream")


def reach_of(front_end: Any) -> Reach:
    """The samples behind a frame.

    Raises:
        ValueError: a front-end of which that is not known.
    """
    if isinstance(front_end, KaldiFbank):
        hop, window = front_end.hop_length, front_end.win_length
        before = window // 2 - hop // 2
        return Reach(hop, before, window - before)
    # Its enhancement (WPE, beamforming) leaves single channels as they are.
    stft = front_end.stft if isinstance(front_end, DefaultFrontend) else None
    if stft is not None and stft.center:
        half = stft.n_fft // 2
        return Reach(front_end.hop_length, half, half)
    raise ValueError(
        f"frontend {type(front_end).__name__} with these options cannot stream: train with "
        "frontend: kaldi_fbank or default"
    )


class StreamFeatures:
    """Normalised features of samples, or of features, that come piece by piece.

    The same as those of all samples at once: the front-end runs on a few windows at a time, with
    enough samples before and after that no frame but the first and last sees an edge.

    Args:
        model: in evaluation mode.

    Raises:
        ValueError: a front-end that cannot stream.
    """

    def __init__(self, model: ProgressiveTransducerModel) -> None:
        self._model = model
        self._device = next(model.parameters()).device
        self._samples = torch.zeros(0, device=self._device)
        self._origin = 0  # number of the first sample kept
        self._next = 0  # frame to be made
        self._reach: Reach | None = None
        if model.frontend is not None:
            self._reach = reach_of(model.frontend)
            windows = -(-(self._reach.before + self._reach.after) // self._reach.hop)
            self._margin = windows + 1  # frames kept before the next one

    @property
    def kept(self) -> int:
        """Samples in memory."""
        return len(self._samples)

    def feed(self, speech: Tensor) -> Tensor:
        """Samples [L] or features [T', F] -> the frames [T', F] that are now complete."""
        speech = speech.to(self._device, torch.float32)
        if self._reach is None:
            return self._normalised(speech.clone())
        self._samples = torch.cat([self._samples, speech])
        heard = self._origin + len(self._samples)
        last = (heard - self._reach.after - 1) // self._reach.hop
        return self._made(last)

    def finish(self) -> Tensor:
        """The frames [T', F] that were waiting for samples; the edge is mirrored as offline."""
        nothing = torch.zeros(0, self._model.feature_size(), device=self._device)
        if self._reach is None:
            return nothing
        heard = self._origin + len(self._samples)
        if heard <= self._reach.after:  # less than half a window: no frame, offline an error
            return nothing
        return self._made(None)

    def _made(self, last: int | None) -> Tensor:
        """Frames up to number ``last``, or all."""
        assert self._reach is not None
        if last is not None and last < self._next:
            return torch.zeros(0, self._model.feature_size(), device=self._device)
        first = self._next - self._origin // self._reach.hop
        end = None if last is None else last + 1 - self._origin // self._reach.hop
        feats = self._normalised(self._samples)[first:end]
        self._next += len(feats)
        origin = max(self._next - self._margin, 0) * self._reach.hop
        if origin > self._origin:
            self._samples = self._samples[origin - self._origin :].clone()
            self._origin = origin
        return feats

    @torch.no_grad()
    def _normalised(self, speech: Tensor) -> Tensor:
        length = torch.tensor([len(speech)], device=self._device)
        if not len(speech):
            return torch.zeros(0, self._model.feature_size(), device=self._device)
        feats, _ = self._model.features(speech[None], length)
        return feats[0]
