"""Encoder frames by our rules against ESPnet's own layers."""

from __future__ import annotations

import pytest
import torch

from espnet_plugin.data.model_frames import (
    INPUT_LAYERS,
    ModelFrames,
    Subsampling,
    frames_from_config,
    parse_rate,
    parse_subsampling,
)
from espnet_plugin.nn import chunking


@pytest.mark.parametrize(
    ("layer", "kind"),
    [
        ("conv2d", "Conv2dSubsampling"),
        ("conv2d1", "Conv2dSubsampling1"),
        ("conv2d2", "Conv2dSubsampling2"),
        ("conv2d6", "Conv2dSubsampling6"),
        ("conv2d8", "Conv2dSubsampling8"),
    ],
)
def test_input_layers_of_espnet(layer: str, kind: str) -> None:
    module = pytest.importorskip("espnet2.legacy.nets.pytorch_backend.transformer.subsampling")
    network = getattr(module, kind)(40, 8, 0.0)
    for length in range(17, 33):
        mask = torch.ones(1, 1, length, dtype=torch.bool)
        frames, kept = network(torch.zeros(1, length, 40), mask)
        frames = frames[0] if isinstance(frames, tuple) else frames
        found = ModelFrames(subsampling=INPUT_LAYERS[layer]).encoder_frames(length)
        assert found == frames.size(1) == int(kept.sum())
        # the model's own rule has the same parameters
        assert found == chunking.Subsampling(*INPUT_LAYERS[layer]).encoder_frames(length)


def test_our_front_end_pads() -> None:
    found = frames_from_config({"encoder": "progressive_conformer"}, "extracted")
    assert [found.encoder_frames(length) for length in (1, 4, 5, 8, 9)] == [1, 1, 2, 2, 3]


def test_raw_audio_is_cut_by_the_front_ends_hop() -> None:
    config = {
        "encoder": "e_branchformer",
        "frontend_conf": {"fs": "8k", "hop_length": 80},
        "encoder_conf": {"input_layer": "conv2d6"},
    }
    found = frames_from_config(config, "raw")
    assert found == ModelFrames(8000, 80, Subsampling(6, 5))
    assert found.encoder_frames(8000) == (101 - 5) // 6
    defaults = frames_from_config({"encoder": "conformer"}, "raw")
    assert defaults == ModelFrames(16000, 128, Subsampling(4, 3))


def test_unknown_encoders_have_no_rule() -> None:
    found = frames_from_config({"encoder": "whisper"}, "extracted")
    assert found == ModelFrames() and found.encoder_frames(100) is None


def test_values_of_the_command_line() -> None:
    assert [parse_rate(text) for text in ("16k", "8000", "22.05kHz")] == [16000, 8000, 22050]
    assert parse_subsampling("4,-3") == Subsampling(4, -3)
    with pytest.raises(ValueError, match="'fast' is not a sampling rate"):
        parse_rate("fast")
    for text in ("-16000", "0", "inf", "nan", "k"):
        with pytest.raises(ValueError, match="not a sampling rate"):
            parse_rate(text)
    with pytest.raises(ValueError, match="'4' is not FACTOR,OFFSET"):
        parse_subsampling("4")
    with pytest.raises(ValueError, match="factor 0 is below 1"):
        parse_subsampling("0,1")
