"""The paper's conformer on ESPnet's: VGG front-end of factor 4, convolution before attention.

Shape legend: B batch, T' feature frames, F features, C channels, T = ceil(T'/4), D encoder size.
"""

from __future__ import annotations

from typing import Any

import torch
from espnet2.asr.encoder.conformer_encoder import ConformerEncoder
from espnet2.legacy.nets.pytorch_backend.conformer.encoder_layer import EncoderLayer
from espnet2.legacy.nets.pytorch_backend.transformer.subsampling import Conv2dSubsampling
from torch import Tensor, nn

from espnet_plugin.nn.chunked import Chunks, make_causal
from espnet_plugin.nn.masked_batch_norm import mask_batch_norm


class VGGSubsampling(Conv2dSubsampling):
    """Conv 3x3, feature pooling by 2, two conv 3x3 of time stride 2, linear (method.md, "Model").

    A Conv2dSubsampling only by name: ESPnet's encoder passes masks to front-ends of that type.
    Time is padded, so T = ceil(T'/4) and no frame is lost at the borders. A ``causal`` one pads the
    first convolution on the left alone: encoder frame t then sees features up to 4t + 3, and a
    chunk of C encoder frames needs exactly its own 4C features.
    """

    def __init__(
        self,
        input_size: int,
        channels: list[int],
        output_size: int,
        pos_enc: nn.Module,
        dropout: float = 0.0,
        causal: bool = False,
    ) -> None:
        nn.Module.__init__(self)
        self.causal = causal
        if len(channels) != 3 or min(channels) < 1:
            raise ValueError(f"vgg_channels must be three positive numbers, got {channels}")
        first, second, third = channels
        self.pool = nn.MaxPool2d((1, 2), ceil_mode=True)
        self.convs = nn.ModuleList(
            [
                nn.Conv2d(1, first, 3, padding=(0, 1) if causal else 1),
                nn.Conv2d(first, second, 3, stride=(2, 1), padding=1),
                nn.Conv2d(second, third, 3, stride=(2, 1), padding=1),
            ]
        )
        self.out = nn.Linear(third * -(-input_size // 2), output_size)
        self.dropout = nn.Dropout(dropout)
        self.pos_enc = pos_enc

    def forward(
        self, x: Tensor, x_mask: Tensor | None, prefix_embeds: Tensor | None = None
    ) -> tuple[Any, Tensor | None]:
        """x [B, T', F], x_mask [B, 1, T'] -> ([B, T, D] with positions, [B, 1, T])."""
        x, mask = x[:, None], x_mask  # [B, 1, T', F]
        for index, conv in enumerate(self.convs):
            if mask is not None:
                # A shorter utterance must not see what its neighbours' length left behind it:
                # a convolution's bias turns padding into something else than zeros. Where they come
                # from outside, these may be anything; behind it a product is far cheaper on CPUs.
                kept = mask[:, :, :, None]  # [B, 1, T, 1]
                x = x * kept.to(x.dtype) if index else x.masked_fill(~kept, 0.0)
            if self.causal and index == 0:
                x = nn.functional.pad(x, (0, 0, 2, 0))
            x = nn.functional.silu(conv(x))  # [B, C, T, F/2], time halved by the last two
            if index == 0:
                x = self.pool(x)
            elif mask is not None:
                mask = mask[:, :, ::2]
        x = self.dropout(self.out(x.transpose(1, 2).flatten(2)))  # [B, T, D]
        return self.pos_enc(x), mask


class ConvFirstEncoderLayer(EncoderLayer):
    """Conformer block with the convolution module before self-attention (method.md, "Model").

    Built from an ESPnet block and made of its modules; only their order differs.
    """

    def __init__(self, layer: EncoderLayer) -> None:
        nn.Module.__init__(self)
        self.__dict__.update(
            {k: v for k, v in layer.__dict__.items() if k not in ("_modules", "_parameters")}
        )
        self._modules = layer._modules

    def forward(
        self, x_input: Any, mask: Tensor | None, cache: Tensor | None = None
    ) -> tuple[Any, Tensor | None]:
        """(x [B, T, D], positions), mask [B, 1, T] -> the same."""
        if cache is not None:
            raise ValueError("the conv-first block does not decode from a cache")
        x, pos_emb = x_input if isinstance(x_input, tuple) else (x_input, None)
        x = x + self.ff_scale * self.dropout(self.feed_forward_macaron(self.norm_ff_macaron(x)))
        x = x + self.dropout(self.conv_module(self.norm_conv(x), mask_pad=mask))
        normed = self.norm_mha(x)
        inputs = (normed, normed, normed) if pos_emb is None else (normed, normed, normed, pos_emb)
        x = x + self.dropout(self.self_attn(*inputs, mask))
        x = x + self.ff_scale * self.dropout(self.feed_forward(self.norm_ff(x)))
        x = self.norm_final(x)
        return (x if pos_emb is None else (x, pos_emb)), mask


class ProgressiveConformerEncoder(ConformerEncoder):
    """`--encoder progressive_conformer`.

    Args:
        input_size: F.
        vgg_channels: channels of the three convolutions (paper: 32, 64, 64).
        conv_first: convolution module before self-attention (paper) or after (ESPnet).
        input_dropout: on the front-end's output; positional_dropout_rate drops positions as well.
        masked_batch_norm: batch statistics of the convolution modules without padded frames.
        chunk_sizes: encoder frames of a chunk, for streaming: a frame sees its own chunk and
            ``left_context`` frames before it; each training batch draws one of the sizes, and 0 is
            the whole utterance. All convolutions become causal. None: no chunks.
        left_context: encoder frames that a chunk sees before itself (64); needs ``chunk_sizes``.
        others: ESPnet's ConformerEncoder's, except input_layer, which is the VGG front-end.

    Raises:
        ValueError: for options the conv-first block does not have, or that do nothing.
    """

    def __init__(
        self,
        input_size: int,
        vgg_channels: list[int] | tuple[int, ...] = (32, 64, 64),
        conv_first: bool = True,
        input_dropout: float = 0.0,
        masked_batch_norm: bool = False,
        chunk_sizes: list[int] | tuple[int, ...] | None = None,
        left_context: int | None = None,
        **kwargs: Any,
    ) -> None:
        if "input_layer" in kwargs:
            raise ValueError("progressive_conformer always has the VGG front-end: no input_layer")
        if kwargs.get("layer_drop_rate"):
            # ESPnet takes it, and its conformer then runs every block all the same.
            raise ValueError(
                f"encoder_conf.layer_drop_rate: {kwargs['layer_drop_rate']} has no effect on a "
                "conformer; drop blocks with accelerators: {layer_drop: {theta: 0.5}} in the "
                "sections of the stages"
            )
        super().__init__(input_size, input_layer="conv2d", **kwargs)
        self.input_size = input_size
        if chunk_sizes is None and left_context is not None:
            raise ValueError("encoder_conf: left_context has no effect without chunk_sizes")
        left = 64 if left_context is None else left_context
        self.chunks = None if chunk_sizes is None else Chunks(chunk_sizes, left)
        size = self.output_size()
        positions = dict(self.named_modules())["embed.pos_enc"]
        self.embed: nn.Module = VGGSubsampling(
            input_size, list(vgg_channels), size, positions, input_dropout, self.chunks is not None
        )
        for layer in self.encoders if masked_batch_norm else ():
            if layer.conv_module is None:
                raise ValueError("masked_batch_norm needs use_cnn_module true")
            mask_batch_norm(layer.conv_module)
        if conv_first:
            self._put_convolution_first()
        if self.chunks is not None:
            self._make_causal(conv_first)

    def _put_convolution_first(self) -> None:
        for index, layer in enumerate(self.encoders):
            if (
                layer.feed_forward_macaron is None
                or layer.conv_module is None
                or not layer.normalize_before
                or layer.concat_after
                or layer.stochastic_depth_rate
            ):
                raise ValueError(
                    "conv_first needs macaron_style, use_cnn_module and normalize_before true, "
                    "concat_after false and stochastic_depth_rate 0"
                )
            self.encoders[index] = ConvFirstEncoderLayer(layer)

    def _make_causal(self, conv_first: bool) -> None:
        assert self.chunks is not None
        if not conv_first or self.interctc_use_conditioning:
            raise ValueError(
                "encoder_conf: chunk_sizes needs conv_first true and interctc_use_conditioning "
                "false"
            )
        for layer in self.encoders:
            make_causal(layer, self.chunks)

    def chunks_left(self) -> int:
        """Left context in encoder frames.

        Raises:
            ValueError: the encoder has no chunks.
        """
        if self.chunks is None:
            raise ValueError(
                "this model sees whole utterances and cannot stream: train one with "
                "encoder_conf: {chunk_sizes: [4, 8, 16, 0], left_context: 64} (docs/streaming.md)"
            )
        return self.chunks.left_context

    def forward(self, xs_pad: Tensor, ilens: Tensor, *args: Any, **kwargs: Any) -> Any:
        """As ConformerEncoder.forward; features beyond the longest utterance are cut off."""
        if self.chunks is not None:
            self.chunks.next_batch(self.training)
        if not torch.onnx.is_in_onnx_export():  # a traced length would be the example's for ever
            xs_pad = xs_pad[:, : int(ilens.max())]
        return super().forward(xs_pad, ilens, *args, **kwargs)
