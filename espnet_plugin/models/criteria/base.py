"""The interface of a training criterion, and normalisation of its loss over a batch.

Shape legend: B batch.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from espnet_plugin.models.batch import Batch

NORMALIZATIONS = ("sequences", "frames", "labels")


@dataclass(frozen=True)
class Chunking:
    """Windows of `size` encoder frames every `hop` frames (method.md, stage 1: 64 and 32).

    Attributes:
        tail: see `chunk_index`.
        augment: SpecAugment masks every window by itself, after the cut, not the utterance.
    """

    size: int
    hop: int
    tail: bool = False
    augment: bool = False


@dataclass(frozen=True)
class Views:
    """Each training utterance several times in its batch, augmented otherwise each time.

    Stretch and frequency warp are common to all views, masks and noise are not.

    Attributes:
        count: of views; the rows of a batch are view after view.
        time_masks: how many times as many time masks as without views.
    """

    count: int = 2
    time_masks: float = 1.0


class TransducerParts(Protocol):
    """What criteria use of a model, whatever class it has.

    Attributes:
        blank_id: index of blank.
        topology: "monotonic" or "rnnt".
        training: False in validation.
        joint_network: encoder and prediction to logits.
        token_list: all tokens, blank included.
    """

    token_list: Any
    blank_id: int
    topology: str
    training: bool
    joint_network: Any

    def encoder_logits(self, frames: Tensor) -> Tensor:
        """Frames [B, T, D] to the logits [B, T, V] of the encoder's own output layer."""

    def intermediate_logits(self, frames: Tensor, layer: int) -> Tensor:
        """The same for an intermediate layer of the encoder."""

    def prediction(self, targets: Tensor) -> Tensor:
        """Labels [B, S] to the prediction network's output [B, S+1, D]."""


class Criterion(ABC):
    """Maps a batch after the encoder to a scalar loss and logged statistics.

    Attributes:
        needs: names of the additional data a training batch must bring; the pipeline makes
            alignments and N-best lists. The task adds those of the options to an instance's.
        option_needs: option of the constructor -> names needed as well where it is given.
        chunking: how the model cuts training utterances before the encoder, or None.
        views: how often a training batch holds each of its utterances, or None for once.
        option_files: options of the constructor that name a file; a finished stage is stale when
            what stands in it changes.
        transcripts: gives the labels of every training utterance, as indices; set where a training
            begins, before `prepare`.
        searches_encoder: True when greedy decoding should read the encoder's output layer
            instead of the joint network, because only that is trained.
        pretrains: True where it learns from speech alone: batches need no text, the criterion
            masks the features itself, instead of SpecAugment, and nothing can be recognised after.
        private: its own parameters, made by `prepare`; trained, and in no file of the model.

    Args:
        normalization: what the summed loss is divided by: the number of "sequences" (ESPnet's
            mean), encoder "frames" or "labels" of the batch. In chunked training these are the
            chunks, and the frames and labels of all chunks.

    Raises:
        ValueError: for an unknown normalization.
    """

    needs: tuple[str, ...] = ()
    option_needs: Mapping[str, tuple[str, ...]] = MappingProxyType({})
    option_files: tuple[str, ...] = ()
    transcripts: Callable[[], Iterable[Sequence[int]]] | None = None
    chunking: Chunking | None = None
    views: Views | None = None
    searches_encoder: bool = False
    pretrains: bool = False
    private: nn.Module | None = None

    def __init__(self, normalization: str = "sequences") -> None:
        if normalization not in NORMALIZATIONS:
            raise ValueError(
                f"loss_conf.normalization must be one of {NORMALIZATIONS}, got {normalization!r}"
            )
        self.normalization = normalization

    def prepare(self, model: Any) -> None:  # noqa: B027 (most criteria have nothing to do)
        """Called once, where a training begins: look at the model, read files.

        Args:
            model: the model that will be trained; what it cannot be trained with is refused here.
        """

    def record(self, folder: Path) -> None:  # noqa: B027 (most criteria have nothing to keep)
        """Called in one process, where a training begins, after `prepare`.

        Args:
            folder: of the training, for what the loss was made from.
        """

    def on_features(
        self, features: Tensor, lengths: Tensor, utt_ids: Sequence[str], training: bool
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Of one that `pretrains`: what the encoder sees, and what it is to guess.

        Args:
            features: [B, T', F] after normalisation; lengths [B].
            utt_ids: names; masks of validation depend on them alone.
            training: False in validation.

        Returns:
            Features of the same shape, and tensors for `Batch.data`.
        """
        raise NotImplementedError(f"{type(self).__name__} does not pretrain")

    @abstractmethod
    def __call__(
        self, model: TransducerParts, batch: Batch
    ) -> tuple[Tensor, dict[str, Tensor], Tensor]:
        """Returns the scalar loss, statistics to log, and `weight` of both."""

    def normalize(self, losses: Tensor, batch: Batch, used: Tensor | None = None) -> Tensor:
        """losses [B] (one sum per row) -> scalar; rows where `used` is False count for nothing."""
        if used is not None:
            losses = losses.masked_fill(~used, 0.0)
        return losses.sum() / self.counts(batch, used).to(losses).sum().clamp(min=1.0)

    def counts(self, batch: Batch, used: Tensor | None = None) -> Tensor:
        """What each row [B] adds to the divisor of the loss."""
        if self.normalization == "sequences":
            counts = torch.ones_like(batch.encoder.lengths)
        elif self.normalization == "frames":
            counts = batch.encoder.lengths
        else:
            counts = batch.target_lengths if batch.row_labels is None else batch.row_labels
        return counts if used is None else counts.to(used.device) * used

    def weight(self, batch: Batch, used: Tensor | None = None) -> Tensor:
        """The divisor of the loss, by which ESPnet averages it over batches and processes.

        Averages under this weight are sums over the whole, divided once: two processes that share
        a batch learn what one learns, and batches of which nothing is used change no average.
        """
        # Not 0: a weight of 0 in every process would make ESPnet's average NaN.
        return self.counts(batch, used).sum().float().clamp(min=1e-6)


def consistency_views(scale: float, time_masks: float) -> Views | None:
    """The views that consistency of this weight needs; None for weight 0.

    Raises:
        ValueError: one of them is negative.
    """
    if scale < 0 or time_masks < 0:
        raise ValueError(
            "loss_conf: consistency_scale and consistency_time_masks must not be negative, got "
            f"{scale} and {time_masks}"
        )
    return Views(time_masks=time_masks) if scale > 0 else None


def check_max_frames(max_frames: int | None) -> None:
    """Raises ValueError unless it is None or a number of frames."""
    if max_frames is not None and max_frames < 1:
        raise ValueError(f"loss_conf.max_frames must be at least 1, got {max_frames}")


def within_frames(
    model: TransducerParts, batch: Batch, max_frames: int | None, device: torch.device
) -> Tensor | None:
    """Which rows [B] of a training batch have at most so many encoder frames; None: all.

    Longer utterances are left out of the batches already (`tasks.frame_limit`); what is left to
    find here was stretched beyond the limit, or is of an encoder whose frames nobody knew.
    """
    if max_frames is None or not model.training:
        return None
    return (batch.encoder.lengths <= max_frames).to(device)


def feasible(losses: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Which of the losses [B] are finite paths, and the statistic that reports the others.

    Sequences with more labels than frames are +inf with zero gradient; they are left out of the
    mean and counted, never turned into NaN (method.md, symbols).
    """
    used = ~torch.isposinf(losses.detach())
    return used, {"infeasible": (~used).sum().to(losses)}
