"""A chunked encoder, chunk after chunk: what it remembers, and one step.

Shape legend: N utterances, F features, C encoder frames of a chunk, L left context, D encoder size,
H heads, K kernel.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn.functional import conv2d, pad, silu

from espnet_plugin.nn.chunked import stream_convolution

if TYPE_CHECKING:
    from espnet_plugin.nn.encoder import ProgressiveConformerEncoder

#: Feature frames of an encoder frame.
FACTOR = 4
_PER_LAYER = 3


@dataclass(frozen=True)
class EncoderState:
    """What an encoder remembers of the chunks before.

    Attributes:
        frames: [N] encoder frames so far, at most L (int64).
        front_end: inputs of the three convolutions: [N, 1, 2, F], [N, C_1, 1, F'], [N, C_2, 1, F'].
        layers: keys and values [N, H, L, D / H] and the convolution's input [N, D, K - 1], layer
            after layer.
    """

    frames: Tensor
    front_end: tuple[Tensor, ...]
    layers: tuple[Tensor, ...]

    def tensors(self) -> tuple[Tensor, ...]:
        """All of them, in the order of :meth:`of`."""
        return (self.frames, *self.front_end, *self.layers)

    @staticmethod
    def of(tensors: Sequence[Tensor]) -> EncoderState:
        """The state that gave these :meth:`tensors`."""
        return EncoderState(tensors[0], tuple(tensors[1:4]), tuple(tensors[4:]))


def start_state(encoder: ProgressiveConformerEncoder, batch: int = 1) -> EncoderState:
    """The state before the first frame: zeros, as the offline encoder pads with."""
    parameter = next(encoder.parameters())
    embed: Any = encoder.embed
    convs = embed.convs
    inputs, width, left = encoder.input_size, -(-encoder.input_size // 2), encoder.chunks_left()
    shapes = [(1, 2, inputs), (convs[1].in_channels, 1, width), (convs[2].in_channels, 1, width)]
    layers: list[tuple[int, ...]] = []
    for layer in encoder.encoders:
        attention, conv = layer.self_attn, layer.conv_module.depthwise_conv
        key = (attention.h, left, attention.d_k)
        layers += [key, key, (conv.in_channels, conv.kernel_size[0] - 1)]
    zeros = [parameter.new_zeros(batch, *shape) for shape in (*shapes, *layers)]
    frames = torch.zeros(batch, dtype=torch.int64, device=parameter.device)
    return EncoderState.of([frames, *zeros])


def encode_chunk(
    encoder: ProgressiveConformerEncoder, feats: Tensor, state: EncoderState
) -> tuple[Tensor, EncoderState]:
    """One chunk of an encoder in evaluation mode.

    Args:
        encoder: with ``chunk_sizes``.
        feats: [N, 4C, F], normalised. The last chunk may have fewer frames; any number will do.
        state: of the chunk before, or :func:`start_state`.

    Returns:
        [N, C, D] (C = a fourth of the frames, rounded up), and the state for the next chunk.

    Raises:
        ValueError: an encoder without chunks, or in training mode.
    """
    left = encoder.chunks_left()
    if encoder.training:
        raise ValueError("an encoder in training mode does not stream: call model.eval()")
    embed: Any = encoder.embed
    x, front_end = _subsample(embed, feats, state.front_end)
    size, positions = x.size(1), embed.pos_enc
    positions.extend_pe(x.new_zeros(1, left + size))
    middle = positions.pe.size(1) // 2  # distance 0
    table = positions.pe[:, middle - left - size + 1 : middle + size]
    x = x * positions.xscale
    back = torch.arange(left, 0, -1, device=x.device)
    exists = torch.cat([back, back.new_zeros(size)]) <= state.frames[:, None]  # [N, L + C]
    layers: list[Tensor] = []
    for number, layer in enumerate(encoder.encoders):
        cache = state.layers[_PER_LAYER * number : _PER_LAYER * (number + 1)]
        x, cache = _through_layer(layer, x, table, exists, cache)
        layers += cache
    frames = (state.frames + size).clamp(max=left)
    return encoder.after_norm(x), EncoderState(frames, front_end, tuple(layers))


def _subsample(
    embed: Any, x: Tensor, caches: tuple[Tensor, ...]
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """[N, T', F] -> [N, ceil(T'/4), D] without positions, and the caches [N, ., ., .]."""
    x, kept = x[:, None], []
    for index, (conv, cache) in enumerate(zip(embed.convs, caches, strict=True)):
        odd = int(x.size(2)) % 2 if index else 0  # only the end of an utterance
        x = torch.cat([cache, x], 2)
        kept.append(x[:, :, x.size(2) - cache.size(2) :])
        x = pad(x, (1, 1, 0, odd))
        x = silu(conv2d(x, conv.weight, conv.bias, conv.stride))
        if index == 0:
            x = embed.pool(x)
    return embed.out(x.transpose(1, 2).flatten(2)), tuple(kept)


def _through_layer(
    layer: Any,
    x: Tensor,
    positions: Tensor,
    exists: Tensor,
    cache: tuple[Tensor, ...],
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """The block's forward on one chunk, see `ConvFirstEncoderLayer.forward`."""
    key, value, conv = cache
    x = x + layer.ff_scale * layer.feed_forward_macaron(layer.norm_ff_macaron(x))
    convolved, conv = stream_convolution(layer.conv_module, layer.norm_conv(x), conv)
    x = x + convolved
    attended, (key, value) = layer.self_attn.stream(
        layer.norm_mha(x), positions, exists, (key, value)
    )
    x = x + attended
    x = x + layer.ff_scale * layer.feed_forward(layer.norm_ff(x))
    return layer.norm_final(x), (key, value, conv)
