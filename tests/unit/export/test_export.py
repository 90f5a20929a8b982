"""What export refuses, by name; and a real model through ONNX Runtime alone."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import soundfile
import torch

from espnet_plugin.bin.export import main
from espnet_plugin.export import ExportOptions, export_onnx
from espnet_plugin.export.onnx_files import Network, write_int8, write_network
from tests.unit.models.test_progressive import build

FIXTURES = Path(__file__).resolve().parents[2] / "fixtures"
NAMES = ("encoder", "decoder", "joiner")


def refused(model: Any, folder: Path, **options: Any) -> str:
    with pytest.raises(ValueError) as error:
        export_onnx(model, argparse.Namespace(), folder / "out", ExportOptions(**options))
    assert not (folder / "out").exists()
    return str(error.value)


def test_models_that_a_runtime_cannot_run(tmp_path: Path) -> None:
    assert "LSTMPrediction: sherpa-onnx calls" in refused(
        build(decoder="lstm_prediction"), tmp_path
    )
    assert "this model is an aligner" in refused(build("ctc"), tmp_path)
    assert "trained on extracted features" in refused(build(), tmp_path)
    with pytest.raises(ValueError, match="opset 9 is too old; at least 13"):
        ExportOptions(opset=9)


def test_other_filterbanks_are_refused(tmp_path: Path) -> None:
    from espnet_plugin.models.kaldi_fbank import KaldiFbank

    model = build()
    model.frontend = KaldiFbank(n_mels=8, hop_length=200)
    assert "hop_length 200, low_freq 20" in refused(model, tmp_path)


def test_missing_packages_say_how_to_get_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ImportError, match=r"export needs onnx: pip install .*\[export\]"):
        export_onnx(build(), argparse.Namespace(), tmp_path)


class Unknown(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.linalg.qr(x).R


def test_an_operator_without_counterpart_is_named(tmp_path: Path) -> None:
    network = Network("odd", Unknown(), (torch.eye(2),), ("x",), ("y",), {})
    with pytest.raises(ValueError, match=r"the odd \(Unknown\) cannot be written .* opset 17"):
        write_network(network, tmp_path, 17, {})
    assert not list(tmp_path.iterdir())


class Drawn(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + torch.rand_like(x)


def test_numbers_that_differ_are_noticed(tmp_path: Path) -> None:
    network = Network("odd", Drawn(), (torch.eye(2),), ("x",), ("y",), {})
    with pytest.raises(ValueError, match="y differs from PyTorch's by"):
        write_network(network, tmp_path, 17, {})
    (tmp_path / "broken.onnx").write_bytes(b"no model")
    with pytest.raises(ValueError, match=r"broken.onnx: cannot be made int8.*--no_int8"):
        write_int8(tmp_path / "broken.onnx")


def greedy(folder: Path, features: np.ndarray, context: int) -> list[int]:
    """The loop of docs/export.md."""
    encoder, decoder, joiner = (
        onnxruntime.InferenceSession(str(folder / f"{name}.onnx")) for name in NAMES
    )
    frames, _ = encoder.run(None, {"x": features[None], "x_lens": np.array([len(features)])})
    history, labels = [-1] * (context - 1) + [0], []
    for frame in frames[0]:
        seen = decoder.run(None, {"y": np.array([history[-context:]])})[0]
        (logit,) = joiner.run(None, {"encoder_out": frame[None], "decoder_out": seen})
        if (best := int(logit.argmax())) != 0:
            labels.append(best)
            history.append(best)
    return labels


def test_the_demo_model_speaks_through_onnx_runtime(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    from espnet_plugin.inference.speech2text import Speech2Text

    model = str(FIXTURES / "mini_tts.zip")
    assert main([model, str(tmp_path / "out")]) == 2
    assert "DefaultFrontend" in caplog.text and "--any_features" in caplog.text
    folder = tmp_path / "out folder"
    assert main([model, str(folder), "--any_features", "--no_int8"]) == 0
    listed = capsys.readouterr().out
    assert all(f"{name}.onnx" in listed for name in NAMES) and not list(folder.glob("*.int8*"))
    facts = json.loads((folder / "export.json").read_text())
    assert facts["runtime_computes_features"] is False
    ours = Speech2Text.from_pretrained(model, search="greedy")
    samples, _ = soundfile.read(FIXTURES / "call.flac", dtype="float32")
    speech = torch.from_numpy(samples)[None]
    with torch.no_grad():
        features, _ = ours.asr_model.frontend(speech, torch.tensor([speech.shape[1]]))
    found = greedy(folder, features[0].numpy(), facts["context_size"])
    (_, _, wanted, _), *_ = ours(samples)
    assert found == wanted and len(found) > 30
