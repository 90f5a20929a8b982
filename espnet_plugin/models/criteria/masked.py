"""`--loss best_rq` and `masked_spectrogram`: the encoder guesses masked features; no transcripts.

Shape legend: B batch, T' feature frames, F features, T encoder frames, k feature frames of an
encoder frame, M masked frames, K code books, C codes of a book.
"""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from espnet_plugin.data.frame_limit import MASK_FRAMES
from espnet_plugin.losses.masked import NORMS, masked_code_loss, masked_feature_loss
from espnet_plugin.models.batch import Batch
from espnet_plugin.models.criteria.base import Criterion, TransducerParts
from espnet_plugin.nn.accelerators.base import seeded_generator
from espnet_plugin.nn.chunking import Subsampling
from espnet_plugin.nn.masking import normalised, span_mask, stacked, valid_frames
from espnet_plugin.nn.quantiser import RandomQuantiser, perplexity
from espnet_plugin.pipeline.plan.losses import BUILT_IN

#: Labels of a book's codes that it takes to tell whether they collapsed, and that are remembered.
ENOUGH, MEMORY = 10, 100
COLLAPSED = 0.1


class MaskedCriterion(Criterion):
    """Masks spans of features; derived classes say what is to be guessed.

    Every frame begins a span with `mask_prob`, where the utterance has room for a whole one. Masked
    features are noise. In training masks are drawn from torch's global generator, as SpecAugment's
    are; in validation an utterance has the same ones in every epoch. The loss is divided by the
    number of masked frames. Utterances shorter than a span have none and count for nothing.

    Args:
        mask_prob: probability that a span begins at a feature frame (BEST-RQ: 0.01).
        mask_frames: its length in feature frames (BEST-RQ: 40, 400 ms).
        noise: standard deviation of the noise that masked features become (BEST-RQ: 0.1).
        seed: of the output layer's first values and of what the derived class draws once.

    Raises:
        ValueError: no mask would be drawn, or a negative number.
    """

    pretrains = True

    def __init__(
        self,
        mask_prob: float = 0.01,
        mask_frames: int = MASK_FRAMES,
        noise: float = 0.1,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if not 0 < mask_prob <= 1 or type(mask_frames) is not int or mask_frames < 1:
            raise ValueError(
                "loss_conf: no masks would be drawn; mask_prob must be above 0 and at most 1, "
                f"mask_frames at least 1; got {mask_prob} and {mask_frames}"
            )
        if noise < 0:
            raise ValueError(f"loss_conf.noise must not be negative, got {noise}")
        self.mask_prob, self.mask_frames = mask_prob, mask_frames
        self.noise, self.seed = noise, seed
        self.subsampling = Subsampling(1, 0)

    def prepare(self, model: Any) -> None:
        """Makes the output layer.

        Raises:
            ValueError: the encoder's frames are no constant number of features, or a mask is
                shorter than one of them.
        """
        if getattr(model, "subsampling", None) is None:
            raise ValueError("pretraining works with model progressive_transducer alone")
        self.subsampling = model.subsampling()
        if self.mask_frames < self.subsampling.factor:
            raise ValueError(
                f"loss_conf.mask_frames {self.mask_frames}: an encoder frame is "
                f"{self.subsampling.factor} feature frames, and a mask has to cover one"
            )
        parameter = next(model.encoder.parameters())
        sizes = (model.encoder.output_size(), self.subsampling.factor, model.feature_size())
        with torch.random.fork_rng(devices=[]):  # the model's own numbers stay as they are
            torch.manual_seed(self.seed)
            self.private = self.make_head(*sizes).to(parameter.device)

    @abstractmethod
    def make_head(self, encoder_size: int, factor: int, features: int) -> nn.Module:
        """What guesses from encoder frames [M, encoder_size]."""

    def on_features(
        self, features: Tensor, lengths: Tensor, utt_ids: Sequence[str], training: bool
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """See `Criterion.on_features`: with `features`, `feature_lengths` and `mask` [B, T']."""
        draws, noise = self._draw(features, lengths.tolist(), utt_ids, training)
        mask = span_mask(draws, lengths, self.mask_prob, self.mask_frames)  # [B, T']
        seen = torch.where(mask[:, :, None], self.noise * noise, features)
        return seen, {"features": features, "feature_lengths": lengths, "mask": mask}

    def _draw(
        self, features: Tensor, lengths: list[int], utt_ids: Sequence[str], training: bool
    ) -> tuple[Tensor, Tensor]:
        """Uniform numbers [B, T'] and normal ones [B, T', F], on the CPU's generators."""
        if training:
            draws, noise = torch.rand(features.shape[:2]), torch.randn(features.shape)
            return draws.to(features.device), noise.to(features)
        draws, noise = torch.ones(features.shape[:2]), torch.zeros(features.shape)
        for row, (name, length) in enumerate(zip(utt_ids, lengths, strict=True)):
            generator = seeded_generator(self.seed, "mask", name)
            draws[row, :length] = torch.rand(length, generator=generator)
            noise[row, :length] = torch.randn(length, features.size(2), generator=generator)
        return draws.to(features.device), noise.to(features)

    def stacks(self, values: Tensor, frames: int) -> Tensor:
        """What each encoder frame stands for: [B, T', ...] -> [B, T, k, ...]."""
        return stacked(values, self.subsampling.factor, self.subsampling.offset, frames)

    def common_stats(self, batch: Batch, losses: Tensor) -> dict[str, Tensor]:
        """Share of frames masked, and how many utterances are too short for a mask."""
        lengths, mask = batch.data["feature_lengths"], batch.data["mask"]
        return {
            "masked": (mask.sum() / lengths.sum().clamp(min=1)).to(losses),
            "too_short": (lengths < self.mask_frames).sum().to(losses),
        }

    def averaged(self, losses: Tensor) -> tuple[Tensor, Tensor]:
        """Mean over masked frames [M], 0 of none; and the weight of that."""
        count = torch.tensor(float(len(losses)), device=losses.device)
        return losses.sum() / count.clamp(min=1.0), count.clamp(min=1e-6)


class CodeHead(nn.Module):
    """Guesses codes of masked frames.

    Attributes:
        counts: [K, C] how often a code was a label, lately.
    """

    counts: Tensor

    def __init__(
        self, encoder_size: int, features: int, books: int, codes: int, dim: int, seed: int
    ) -> None:
        super().__init__()
        self.output = nn.Linear(encoder_size, books * codes)
        self.quantiser = RandomQuantiser(features, books, codes, dim, seed)
        counts = torch.zeros(books, codes, dtype=torch.float64)
        self.register_buffer("counts", counts)

    def forward(self, frames: Tensor) -> Tensor:
        """Encoder frames [M, D] -> logits [M, K, C]."""
        logits: Tensor = self.output(frames)
        return logits.view(len(frames), *self.counts.shape)

    @torch.no_grad()
    def count(self, codes: Tensor) -> None:
        """Take note of labels [M, K]; those of long ago fade."""
        for book, of in zip(self.counts, codes.T, strict=True):
            book += torch.bincount(of, minlength=len(book))
        if float(self.counts[0].sum()) > MEMORY * self.counts.size(1):
            self.counts *= 0.5


class BestRQCriterion(MaskedCriterion):
    """BEST-RQ: cross entropy of the masked frames' codes (`RandomQuantiser`).

    Labels come from the features before masking, each utterance's with mean 0 and deviation 1.
    An encoder frame is masked where all of its features are.

    Args:
        codes: of each book; 8,192 take some hundred hours to fill.
        dim: numbers of a code.
        books: code books, each with an output layer.
        others: see `MaskedCriterion`.

    Raises:
        ValueError: impossible sizes.
    """

    pretrains = BUILT_IN["best_rq"].pretrains

    def __init__(self, codes: int = 8192, dim: int = 16, books: int = 4, **others: Any) -> None:
        super().__init__(**others)
        if codes < 2 or dim < 1 or books < 1:
            raise ValueError(
                "loss_conf: codes must be at least 2, dim and books at least 1; got "
                f"{codes}, {dim}, {books}"
            )
        self.codes, self.dim, self.books = codes, dim, books
        self._told = False

    def make_head(self, encoder_size: int, factor: int, features: int) -> nn.Module:
        """See `MaskedCriterion`."""
        sizes = (encoder_size, factor * features, self.books, self.codes, self.dim)
        return CodeHead(*sizes, self.seed)

    def targets(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Encoder frames [B, T] to guess, and the codes [M, K] of those."""
        assert isinstance(self.private, CodeHead)
        features, lengths = batch.data["features"], batch.data["feature_lengths"]
        frames = batch.encoder.frames.size(1)
        within = valid_frames(batch.encoder.lengths, frames)
        # what a stack has beyond the last feature hides nothing
        hidden = batch.data["mask"] | ~valid_frames(lengths, features.size(1))
        shown = self.stacks(~hidden, frames).any(2)  # [B, T]
        # a stack of padding alone does not occur within
        wanted = within & ~shown & self.stacks(batch.data["mask"], frames).any(2)
        stacks = self.stacks(normalised(features.float(), lengths), frames)[wanted]  # [M, k, F]
        return wanted, self.private.quantiser(stacks.flatten(1))

    def __call__(
        self, model: TransducerParts, batch: Batch
    ) -> tuple[Tensor, dict[str, Tensor], Tensor]:
        """See `Criterion.__call__`."""
        assert isinstance(self.private, CodeHead)
        wanted, codes = self.targets(batch)
        logits = self.private(batch.encoder.frames[wanted])  # [M, K, C]
        losses = masked_code_loss(logits, codes, reduction="none")  # [M]
        loss, weight = self.averaged(losses)
        right = (logits.detach().argmax(-1) == codes).float()
        stats = {
            **self.common_stats(batch, losses.detach()),
            "loss_best_rq": loss.detach(),
            "acc_codes": right.sum() / max(right.numel(), 1),
        }
        if model.training:
            self.private.count(codes)
            used = perplexity(self.private.counts)  # [K]
            stats["perplexity_codes"] = used.mean().to(loss)
            self._tell_collapse(float(used.min()), float(self.private.counts[0].sum()))
        return loss, stats, weight

    def _tell_collapse(self, used: float, seen: float) -> None:
        """Once a training, where the labels say little."""
        least = max(COLLAPSED * self.codes, 1.5)  # of a few codes, one alone is a collapse
        if self._told or seen < ENOUGH * self.codes or used >= least:
            return
        self._told = True
        logging.warning(
            "loss best_rq: labels use %.0f of %d codes (perplexity over %.0f frames), so that "
            "there is little to learn; give loss_conf fewer codes, or look whether the features "
            "are constant",
            *(used, self.codes, seen),
        )


class MaskedSpectrogramCriterion(MaskedCriterion):
    """Reconstruction of masked feature frames, each utterance's with mean 0 and deviation 1.

    Args:
        norm: "l1" or "l2", of what is missing.
        others: see `MaskedCriterion`.

    Raises:
        ValueError: for another norm.
    """

    pretrains = BUILT_IN["masked_spectrogram"].pretrains

    def __init__(self, norm: str = "l1", **others: Any) -> None:
        super().__init__(**others)
        if norm not in NORMS:
            raise ValueError(f"loss_conf.norm must be one of {', '.join(NORMS)}; got {norm!r}")
        self.norm = norm

    def make_head(self, encoder_size: int, factor: int, features: int) -> nn.Module:
        """See `MaskedCriterion`."""
        return nn.Linear(encoder_size, factor * features)

    def __call__(
        self, model: TransducerParts, batch: Batch
    ) -> tuple[Tensor, dict[str, Tensor], Tensor]:
        """See `Criterion.__call__`."""
        assert self.private is not None
        features, lengths = batch.data["features"], batch.data["feature_lengths"]
        frames = batch.encoder.frames.size(1)
        within = valid_frames(batch.encoder.lengths, frames)[:, :, None]  # [B, T, 1]
        wanted = self.stacks(batch.data["mask"], frames) & within  # [B, T, k]
        true = self.stacks(normalised(features.float(), lengths), frames)[wanted]  # [M, F]
        rows = wanted.any(2)  # [B, T]
        guessed = self.private(batch.encoder.frames[rows])  # [N, k * F]
        guessed = guessed.view(-1, wanted.size(2), features.size(2))[wanted[rows]]  # [M, F]
        losses = masked_feature_loss(guessed, true, norm=self.norm, reduction="none")
        loss, weight = self.averaged(losses)
        stats = {"loss_masked_spectrogram": loss.detach()}
        return loss, {**self.common_stats(batch, losses.detach()), **stats}, weight
