"""Attention and convolution that can run while the speech is still coming in.

Frames come in chunks of C encoder frames. A frame sees its own chunk, the ``left_context`` frames
before it, and nothing later; convolutions see nothing later at all. So an encoder may compute chunk
after chunk, with a few frames kept of each layer, what it computes of the whole utterance under the
same masks.

Shape legend: N utterances, T encoder frames, C frames of a chunk, L left context, D encoder size,
H heads, K kernel.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from espnet2.legacy.nets.pytorch_backend.transformer.attention import (
    RelPositionMultiHeadedAttention,
)
from torch import Tensor, nn
from torch.nn.functional import conv1d, glu, pad


class Chunks:
    """Which frames of an utterance see which.

    Args:
        sizes: frames of a chunk; 0: the whole utterance is one. A training batch draws one of them.
        left_context: frames that a chunk sees before itself.

    Attributes:
        size: of the present batch; in evaluation that of `evaluation`.
        evaluation: the largest of ``sizes``; may be set.

    Raises:
        ValueError: no sizes, or a negative number.
    """

    def __init__(self, sizes: Sequence[int], left_context: int) -> None:
        if not sizes or min(sizes) < 0 or left_context < 0:
            raise ValueError(
                f"encoder_conf: chunk_sizes {list(sizes)} and left_context {left_context} are "
                "numbers of encoder frames; a chunk of 0 is the whole utterance"
            )
        self.sizes, self.left_context = tuple(sizes), left_context
        self.evaluation = self.size = 0 if 0 in self.sizes else max(self.sizes)

    def next_batch(self, training: bool) -> None:
        """Draw ``size`` (from torch's random numbers), or take that of the evaluation."""
        self.size = self.evaluation
        if training:
            self.size = self.sizes[int(torch.randint(len(self.sizes), ()))]

    def mask(self, frames: Tensor) -> Tensor:
        """Frames' numbers [T] -> [T, T], True where the row's frame sees the column's."""
        if self.size == 0:
            return torch.ones_like(frames[:, None] + frames, dtype=torch.bool)
        first = frames - frames % self.size  # of each frame's chunk
        seen, row = frames[None], first[:, None]
        return (seen < row + self.size) & (seen >= row - self.left_context)


class ChunkedAttention(RelPositionMultiHeadedAttention):
    """ESPnet's relative attention under a chunk mask; its parameters are those of ``attention``."""

    def __init__(self, attention: RelPositionMultiHeadedAttention, chunks: Chunks) -> None:
        nn.Module.__init__(self)
        self.__dict__.update(attention.__dict__)
        self.chunks = chunks

    def forward(
        self, query: Tensor, key: Tensor, value: Tensor, pos_emb: Tensor, mask: Tensor
    ) -> Tensor:
        """As ESPnet's; mask [N, 1, T]."""
        frames = torch.arange(query.size(1), device=query.device)
        seen = mask & self.chunks.mask(frames)[None]
        out: Tensor = super().forward(query, key, value, pos_emb, seen)
        return out

    def stream(
        self, x: Tensor, positions: Tensor, seen: Tensor, cache: tuple[Tensor, Tensor]
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """One chunk.

        Args:
            x: [N, C, D].
            positions: [1, L + 2C - 1, D] encodings of the distances L + C - 1 down to 1 - C.
            seen: [N, L + C] True for frames that exist.
            cache: keys and values of the L frames before, [N, H, L, D / H] each.

        Returns:
            [N, C, D], and the cache for the next chunk.
        """
        query, key, value = self.forward_qkv(x, x, x)
        key, value = torch.cat([cache[0], key], 2), torch.cat([cache[1], value], 2)
        query = query.transpose(1, 2)  # [N, C, H, D / H]
        place = self.linear_pos(positions).view(1, -1, self.h, self.d_k).transpose(1, 2)
        content = (query + self.pos_bias_u).transpose(1, 2) @ key.transpose(-2, -1)
        by_distance = (query + self.pos_bias_v).transpose(1, 2) @ place.transpose(-2, -1)
        # Of query i and key j (the cache's first is 0) the distance is number C - 1 - i + j.
        own = torch.arange(x.size(1), device=x.device)
        column = own.flip(0)[:, None] + torch.arange(key.size(2), device=x.device)
        distance = by_distance.gather(3, column.expand(*content.shape))
        scores = (content + distance) / math.sqrt(self.d_k)
        out = self.forward_attention(value, scores, seen[:, None])
        left = self.chunks.left_context
        kept = key[:, :, key.size(2) - left :], value[:, :, value.size(2) - left :]
        return out, kept


class CausalConv1d(nn.Conv1d):
    """A depthwise convolution [N, D, T] -> the same that sees K - 1 frames before, none after."""

    def __init__(self, conv: nn.Conv1d) -> None:
        nn.Module.__init__(self)
        self.__dict__.update(conv.__dict__)
        self.padding = (0,)

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """[N, D, T] -> [N, D, T], with another weight, too: that of `rep_conv`."""
        padded = pad(input, (self.kernel_size[0] - 1, 0))
        out: Tensor = super()._conv_forward(padded, weight, bias)
        return out


def stream_convolution(module: Any, x: Tensor, cache: Tensor) -> tuple[Tensor, Tensor]:
    """One chunk through an ESPnet convolution module whose convolution is causal.

    Args:
        module: in evaluation mode.
        x: [N, C, D].
        cache: [N, D, K - 1] what the convolution saw before.

    Returns:
        [N, C, D], and the cache for the next chunk.
    """
    conv = module.depthwise_conv
    inputs = torch.cat([cache, glu(module.pointwise_conv1(x.transpose(1, 2)), dim=1)], 2)
    out = conv1d(inputs, conv.weight, conv.bias, groups=conv.groups)
    out = module.pointwise_conv2(module.activation(module.norm(out)))
    return out.transpose(1, 2), inputs[:, :, inputs.size(2) - cache.size(2) :]


def make_causal(layer: Any, chunks: Chunks) -> None:
    """Turn an ESPnet conformer block into one that sees no later chunk; parameters stay.

    Raises:
        ValueError: the block has another attention than the relative one.
    """
    attention = layer.self_attn
    if type(attention) is not RelPositionMultiHeadedAttention:
        raise ValueError(
            f"encoder_conf: chunk_sizes needs rel_pos_type latest and selfattention_layer_type "
            f"rel_selfattn, found {type(attention).__name__}"
        )
    if attention.zero_triu:
        raise ValueError("encoder_conf: chunk_sizes and zero_triu do not go together")
    layer.self_attn = ChunkedAttention(attention, chunks)
    layer.conv_module.depthwise_conv = CausalConv1d(layer.conv_module.depthwise_conv)
