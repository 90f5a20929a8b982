"""SpecAugment as the paper's set-ups use it, registered as `specaug: progressive`.

Shape legend: B batch, T' feature frames, F feature channels.
"""

from __future__ import annotations

import torch
from espnet2.asr.specaug.abs_specaug import AbsSpecAug
from torch import Tensor

from espnet_plugin.models.criteria.base import Chunking
from espnet_plugin.nn.augment import frequency_warp, random_masks, time_stretch


class ProgressiveSpecAug(AbsSpecAug):
    """Masks whose number grows with the utterance and starts at half strength (method.md, stage 1).

    Works on normalised features, so that a mask of zeros is a mask of means; our model applies it
    after normalisation for that reason (ESPnet's own order masks before it).

    Args:
        max_freq_masks: feature masks per utterance, uniform in 1..max (paper: 5); 0 turns them off.
        freq_mask_width: most channels of one mask (paper: 5 at 16 kHz, 4-8 at 8 kHz).
        time_mask_width: most frames of one mask (paper: 15).
        frames_per_time_mask: one more time mask allowed per so many frames (paper: 21); the number
            is uniform in 1..T'/frames_per_time_mask; 0 turns them off.
        warmup_steps: training steps with half the number of masks (paper: 2,000).
        time_stretch: [low, high] factor of the duration, drawn per batch; null turns it off.
        stretch_multiple: frames that a stretched batch's length is a multiple of, the nearest to
            what was drawn. Fewer shapes: libraries that build a kernel for each are faster.
        frequency_warp: [low, high] factor of the channel axis, drawn per utterance (vocal tract
            length perturbation; for filterbanks, not for cepstra); null turns it off.
        noise_std: standard deviation of white noise added to the normalised features.

    Raises:
        ValueError: for negative numbers or an empty stretch interval.
    """

    def __init__(
        self,
        max_freq_masks: int = 5,
        freq_mask_width: int = 5,
        time_mask_width: int = 15,
        frames_per_time_mask: int = 21,
        warmup_steps: int = 2000,
        time_stretch: list[float] | tuple[float, float] | None = None,
        frequency_warp: list[float] | tuple[float, float] | None = None,
        noise_std: float = 0.0,
        stretch_multiple: int = 1,
    ) -> None:
        super().__init__()
        numbers = (
            max_freq_masks,
            freq_mask_width,
            time_mask_width,
            frames_per_time_mask,
            warmup_steps,
            noise_std,
        )
        if min(numbers) < 0:
            raise ValueError(f"specaug_conf must not be negative, got {numbers}")
        if stretch_multiple < 1:
            raise ValueError(f"stretch_multiple must be at least 1, got {stretch_multiple}")
        for name, span in (("time_stretch", time_stretch), ("frequency_warp", frequency_warp)):
            if span is not None and not 0 < span[0] <= span[1]:
                raise ValueError(f"{name} must be [low, high] with 0 < low <= high, got {span}")
        self.max_freq_masks = max_freq_masks
        self.freq_mask_width = freq_mask_width
        self.time_mask_width = time_mask_width
        self.frames_per_time_mask = frames_per_time_mask
        self.warmup_steps = warmup_steps
        self.time_stretch = time_stretch
        self.stretch_multiple = stretch_multiple
        self.frequency_warp = frequency_warp
        self.noise_std = noise_std
        # A buffer, because it changes what step n+1 does and so must survive a resume. float64:
        # ESPnet's model averaging sums integer tensors, which would fake a later step.
        self.register_buffer("steps", torch.zeros((), dtype=torch.float64))

    def forward(self, x: Tensor, x_lengths: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """x [B, T', F] -> augmented x [B, T'', F] and its lengths (T'' != T' with a stretch)."""
        if x_lengths is None:
            x_lengths = torch.full((x.size(0),), x.size(1), dtype=torch.long, device=x.device)
        x, x_lengths = self.distort(x, x_lengths)
        return self.mask(x, x_lengths), x_lengths

    def distort(self, x: Tensor, x_lengths: Tensor, views: int = 1) -> tuple[Tensor, Tensor]:
        """All but the masks: stretch, warp and noise; of whole utterances [B, T', F].

        Args:
            views: W copies of the batch, one after the other, that differ in their noise alone.

        Returns:
            [W·B, T'', F] and lengths.
        """
        if self.time_stretch is not None:
            low, high = self.time_stretch
            factor = self._whole(low + (high - low) * float(torch.rand(())), x.size(1))
            x, x_lengths = time_stretch(x, x_lengths, factor)
        if self.frequency_warp is not None:
            low, high = self.frequency_warp
            factors = low + (high - low) * torch.rand(x.size(0))
            x = frequency_warp(x, factors.to(x.device))
        if views > 1:
            x, x_lengths = x.repeat(views, 1, 1), x_lengths.repeat(views)
        if self.noise_std > 0:
            x = x + self.noise_std * torch.randn_like(x)
        return x, x_lengths

    def _whole(self, factor: float, frames: int) -> float:
        """The factor next to this one that makes a batch of so many frames a whole multiple."""
        if self.stretch_multiple == 1:
            return factor
        multiples = max(1, round(frames * factor / self.stretch_multiple))
        return multiples * self.stretch_multiple / frames

    def mask(self, x: Tensor, x_lengths: Tensor, time_masks: float = 1.0) -> Tensor:
        """Masks of each row of [B, T', F], utterances or windows of them; one training step.

        Args:
            time_masks: factor of the allowed number of time masks.
        """
        strength = 0.5 if float(self.steps) < self.warmup_steps else 1.0
        self.steps += 1
        return self._mask(x, x_lengths, strength, time_masks)

    def _counts(self, most: Tensor, strength: float) -> Tensor:
        """Number of masks, uniform in 1..strength·most (0 where that is below one)."""
        most = (most * strength).floor()
        draw = torch.rand(most.shape).to(most.device)
        return torch.where(most >= 1, (draw * most).floor() + 1, most).long()

    def _mask(self, x: Tensor, lengths: Tensor, strength: float, time_masks: float) -> Tensor:
        batch, frames, channels = x.shape
        if self.frames_per_time_mask > 0:
            most = lengths / self.frames_per_time_mask * time_masks
            counts = self._counts(most, strength)
            mask = random_masks(lengths, counts, self.time_mask_width, frames, None)  # [B, T']
            x = x.masked_fill(mask[:, :, None], 0.0)
        if self.max_freq_masks > 0:
            most = torch.full((batch,), float(self.max_freq_masks), device=x.device)
            width = torch.full((batch,), channels, dtype=torch.long, device=x.device)
            counts = self._counts(most, strength)
            mask = random_masks(width, counts, self.freq_mask_width, channels, None)  # [B, F]
            x = x.masked_fill(mask[:, None, :], 0.0)
        return x


def masks_windows(specaug: AbsSpecAug | None, chunking: Chunking | None) -> bool:
    """Whether masks are drawn for windows after the cut instead of for whole utterances.

    Raises:
        ValueError: ESPnet's own SpecAugment, whose masks come with what changes the time axis.
    """
    if specaug is None or chunking is None or not chunking.augment:
        return False
    if not isinstance(specaug, ProgressiveSpecAug):
        raise ValueError(
            f"loss_conf.chunk_specaug needs specaug: progressive, not {type(specaug).__name__}"
        )
    return True
