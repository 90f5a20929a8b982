"""The sum over all label sequences of a model that sees the last label alone, and its posteriors.

Shapes: B batch, T frames, V vocabulary with blank, n frames of one chunk.

A state is the last label u (blank: none yet), and every frame is left by one arc: blank, which
stays in u, or a label v, which leads to v (docs/maths.md, section 7). With weights w = exp(score)

    A[0](blank) = 1,  A[t+1](v) = A[t](v) w(blank | t, v) + sum_u A[t](u) w(v | t, u)
    sum = sum_v A[T](v) w(end | v)

where v is a label in the second sum, as nothing leads back to the beginning. These are products
of vectors and matrices. What they hold is divided by its sum after every frame, in float64, so
that nothing overflows and only what is negligible vanishes.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from espnet_plugin.lattice.steps import ACCUMULATION_DTYPE

_CHUNK_BYTES = {"cpu": 4 << 20, "cuda": 256 << 20}


class LabelContexts:
    """One batch of such lattices.

    Args:
        log_probs: log p(v | t, u), [B, T, V, V]: rows u, columns v; -inf where t lies past the
            end or u cannot be reached.
        lm: scores that labels add to ``scale * log_probs``, [V, V + 1]: rows u, columns v, the
            end of the sentence last; column ``blank`` is not read.
        lengths: frames of each sequence, int64 [B] on the device of ``log_probs``.
        blank: index of the blank.
        scale: of log_probs.
    """

    def __init__(
        self, log_probs: Tensor, lm: Tensor, lengths: Tensor, blank: int, scale: float
    ) -> None:
        self._log_probs, self._blank, self._scale = log_probs, blank, scale
        self._steps = lm[:, :-1].to(ACCUMULATION_DTYPE, copy=True)  # [V, V]
        self._steps[:, blank] = 0.0
        self._end = lm[:, -1].to(ACCUMULATION_DTYPE).exp()  # [V]
        batch, frames, size, _ = log_probs.shape
        self._inside = torch.arange(frames, device=lengths.device)[:, None, None] < lengths[:, None]
        per_frame = 8 * batch * size * size  # [T, B, 1] above
        budget = _CHUNK_BYTES.get(log_probs.device.type, 64 << 20)
        self.chunk = max(1, budget // max(1, per_frame))

    def forward(self) -> tuple[Tensor, Tensor]:
        """Each A[t] divided by its sum [T+1, B, V], and the log of the whole sum [B]."""
        batch, frames, size, _ = self._log_probs.shape
        shares = self._end.new_zeros(frames + 1, batch, size)
        shares[0, :, self._blank] = 1.0
        total = self._end.new_zeros(batch)
        for part in self._parts():
            labels, stay = self._weights(part)
            for frame in range(part.start, part.stop):
                place, before = frame - part.start, shares[frame]
                after = torch.bmm(before[:, None], labels[:, place]).squeeze(1)
                after.addcmul_(before, stay[place])
                norm = after.sum(1, keepdim=True)
                inside = self._inside[frame]  # [B, 1]
                torch.where(inside, after / norm, before, out=shares[frame + 1])
                total += torch.where(inside, norm.log(), 0.0).squeeze(1)
        return shares, total + (shares[-1] * self._end).sum(1).log()

    def posteriors(self, shares: Tensor) -> Iterator[tuple[slice, Tensor]]:
        """The probability of every arc, a chunk of frames at a time, the last chunk first.

        Args:
            shares: of :meth:`forward`.

        Yields:
            The frames, and their arcs' posteriors [B, n, V, V], as ``log_probs`` lie; 0 past the
            end. The tensor may be overwritten.
        """
        after = self._end.expand(shares.shape[1], -1)  # [B, V], B[t+1] divided by its sum
        for part in reversed(list(self._parts())):
            arcs, stay = self._weights(part)
            following = torch.empty_like(stay)  # [n, B, V]
            for frame in range(part.stop - 1, part.start - 1, -1):
                place = frame - part.start
                following[place] = after
                before = torch.bmm(arcs[:, place], after[:, :, None]).squeeze(2)
                before.addcmul_(after, stay[place])
                before /= before.sum(1, keepdim=True)
                after = torch.where(self._inside[frame], before, after)
            arcs *= following.transpose(0, 1)[:, :, None]
            arcs[..., self._blank] = (stay * following).transpose(0, 1)
            arcs *= shares[part].transpose(0, 1)[..., None]
            arcs /= arcs.sum((2, 3), keepdim=True)
            yield part, arcs.masked_fill_(~self._inside[part].transpose(0, 1)[..., None], 0.0)

    def _parts(self) -> Iterator[slice]:
        frames = self._log_probs.shape[1]
        for start in range(0, frames, self.chunk):
            yield slice(start, min(start + self.chunk, frames))

    def _weights(self, part: slice) -> tuple[Tensor, Tensor]:
        """w of some frames: of labels [B, n, V, V], with 0 for blank, and of blank [n, B, V]."""
        scores = self._log_probs[:, part].to(ACCUMULATION_DTYPE) * self._scale
        labels = scores.add_(self._steps).exp_()
        stay = labels[..., self._blank].transpose(0, 1).contiguous()
        labels[..., self._blank] = 0.0
        return labels, stay
