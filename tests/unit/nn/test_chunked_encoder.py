"""Encoders that see no later chunk: masks, and chunk after chunk the same as all at once."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from espnet2.legacy.nets.pytorch_backend.transformer.attention import (
    RelPositionMultiHeadedAttention,
)
from torch import Tensor, nn

from espnet_plugin.nn.accelerators import AttachedAccelerators, Host
from espnet_plugin.nn.chunked import Chunks
from espnet_plugin.nn.encoder import ProgressiveConformerEncoder
from espnet_plugin.nn.encoder_stream import encode_chunk, start_state

FEATURES = 7


def make(**options: Any) -> ProgressiveConformerEncoder:
    torch.manual_seed(0)
    given = {
        "output_size": 8,
        "attention_heads": 2,
        "linear_units": 12,
        "num_blocks": 2,
        "vgg_channels": [2, 3, 4],
        "macaron_style": True,
        "rel_pos_type": "latest",
        "pos_enc_layer_type": "rel_pos",
        "selfattention_layer_type": "rel_selfattn",
        "cnn_module_kernel": 5,
        **options,
    }
    encoder = ProgressiveConformerEncoder(FEATURES, **given)
    for module in encoder.modules():
        if isinstance(module, nn.BatchNorm1d):  # so that its place matters
            nn.init.uniform_(module.running_mean, -1, 1)
            nn.init.uniform_(module.bias, -1, 1)
    return encoder.eval()


def streamed(encoder: ProgressiveConformerEncoder, feats: Tensor, chunk: int) -> Tensor:
    """[N, T', F] -> [N, T, D], chunk frames at a time."""
    state, rows = start_state(encoder, len(feats)), []
    for start in range(0, feats.size(1), 4 * chunk):
        out, state = encode_chunk(encoder, feats[:, start : start + 4 * chunk], state)
        rows.append(out)
    return torch.cat(rows, 1)


@pytest.mark.parametrize("left", [0, 1, 5, 64])
@pytest.mark.parametrize("chunk", [1, 2, 3, 8, 40])
@torch.no_grad()
def test_chunk_after_chunk_equals_all_at_once(chunk: int, left: int) -> None:
    encoder = make(chunk_sizes=[chunk], left_context=left)
    for frames in (8, 9, 47, 130, 131, 132, 133):
        feats = torch.randn(2, frames, FEATURES)
        whole, lengths, _ = encoder(feats, torch.tensor([frames, frames]))
        assert lengths.tolist() == [-(-frames // 4)] * 2
        torch.testing.assert_close(streamed(encoder, feats, chunk), whole, atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_a_frame_sees_its_chunk_and_the_left_context_alone() -> None:
    encoder = make(chunk_sizes=[3], left_context=2, num_blocks=1)
    feats, length = torch.randn(1, 80, FEATURES), torch.tensor([80])
    before, _, _ = encoder(feats, length)
    changed = feats.clone()
    changed[:, 48:] += 1.0  # encoder frame 12, first of a chunk
    after, _, _ = encoder(changed, length)
    torch.testing.assert_close(before[:, :12], after[:, :12], atol=0, rtol=0)
    assert (before[:, 12:] != after[:, 12:]).any(-1).all()
    changed = feats.clone()
    changed[:, :24] += 1.0  # frames 0 to 5, and by the front-end 6, by convolution up to 10
    after, _, _ = encoder(changed, length)
    torch.testing.assert_close(before[:, 15:], after[:, 15:], atol=0, rtol=0)


@torch.no_grad()
def test_padding_does_not_reach_shorter_utterances_of_a_batch() -> None:
    encoder = make(chunk_sizes=[4], left_context=6)
    feats = torch.randn(2, 90, FEATURES)
    both, lengths, _ = encoder(feats, torch.tensor([90, 33]))
    alone, _, _ = encoder(feats[1:, :33], torch.tensor([33]))
    assert lengths.tolist() == [23, 9]
    torch.testing.assert_close(both[1, :9], alone[0], atol=1e-5, rtol=1e-4)


def test_training_draws_sizes_and_evaluation_takes_the_largest() -> None:
    encoder = make(chunk_sizes=[2, 5, 0], dropout_rate=0.0)
    assert encoder.chunks is not None
    feats, length = torch.randn(1, 40, FEATURES), torch.tensor([40])
    encoder(feats, length)
    assert encoder.chunks.size == 0
    encoder.chunks.evaluation = 5
    encoder(feats, length)
    assert encoder.chunks.size == 5
    drawn = set()
    encoder.train()
    for _ in range(30):
        encoder(feats, length)[0].sum().backward()
        drawn.add(encoder.chunks.size)
    assert drawn == {2, 5, 0}
    assert all(p.grad is not None for p in encoder.parameters())
    assert Chunks([2, 8], 4).evaluation == 8


def test_a_mask_by_hand() -> None:
    chunks = Chunks([2], 1)
    wanted = ["11000", "11000", "01110", "01110", "00011"]
    mask = chunks.mask(torch.arange(5))
    assert ["".join(map(str, row)) for row in mask.int().tolist()] == wanted


def test_without_chunks_the_encoder_is_what_it_was() -> None:
    """Modules, parameters and, to the last bit, numbers."""
    encoder = make()
    assert encoder.chunks is None and not encoder.embed.causal
    for layer in encoder.encoders:
        assert type(layer.self_attn) is RelPositionMultiHeadedAttention
        assert type(layer.conv_module.depthwise_conv) is nn.Conv1d
        assert layer.conv_module.depthwise_conv.padding == (2,)
    assert [conv.padding for conv in encoder.embed.convs] == [(1, 1)] * 3
    feats, mask = torch.randn(1, 29, FEATURES), torch.ones(1, 1, 8, dtype=torch.bool)
    random = torch.random.get_rng_state()
    with torch.no_grad():
        found, _, _ = encoder(feats, torch.tensor([29]))
        x = feats[:, None]
        for index, conv in enumerate(encoder.embed.convs):
            x = nn.functional.silu(conv(x))
            x = encoder.embed.pool(x) if index == 0 else x
        pair = encoder.embed.pos_enc(encoder.embed.out(x.transpose(1, 2).flatten(2)))
        for layer in encoder.encoders:
            pair, _ = layer(pair, mask)
        assert torch.equal(found, encoder.after_norm(pair[0]))
    assert torch.equal(random, torch.random.get_rng_state())
    chunked = make(chunk_sizes=[4, 0])
    assert {k: v.shape for k, v in encoder.state_dict().items()} == {
        k: v.shape for k, v in chunked.state_dict().items()
    }


def test_a_causal_convolution_takes_the_kernel_of_rep_conv() -> None:
    encoder = make(chunk_sizes=[4, 0])
    model = nn.Module()
    model.encoder = encoder
    feats, lengths = torch.randn(2, 64, FEATURES), torch.tensor([64, 50])
    plain = encoder(feats, lengths)[0]
    host = Host(model, list(encoder.encoders), "full_sum", 1)
    AttachedAccelerators({"rep_conv": {"kernels": [3]}}, host)
    torch.testing.assert_close(encoder(feats, lengths)[0], plain, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"chunk_sizes": []}, "numbers of encoder frames"),
        ({"chunk_sizes": [4, -1]}, "numbers of encoder frames"),
        ({"chunk_sizes": [4], "left_context": -2}, "numbers of encoder frames"),
        ({"left_context": 8}, "no effect without chunk_sizes"),
        ({"chunk_sizes": [4], "conv_first": False}, "chunk_sizes needs conv_first"),
        (
            {
                "chunk_sizes": [4],
                "pos_enc_layer_type": "abs_pos",
                "selfattention_layer_type": "selfattn",
            },
            "found MultiHeadedAttention",
        ),
    ],
)
def test_options_that_cannot_stream_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(**options)


def test_models_that_cannot_stream_say_so() -> None:
    with pytest.raises(ValueError, match="sees whole utterances and cannot stream"):
        start_state(make())
    encoder = make(chunk_sizes=[4])
    state = start_state(encoder)
    with pytest.raises(ValueError, match="training mode does not stream"):
        encode_chunk(encoder.train(), torch.zeros(1, 16, FEATURES), state)
