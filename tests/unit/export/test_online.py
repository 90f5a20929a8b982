"""The encoder of a stream through ONNX Runtime and the real sherpa-onnx, chunk by chunk."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch

from espnet_plugin.bin.export import main
from espnet_plugin.inference.streaming import StreamingSpeech2Text
from espnet_plugin.nn.encoder_stream import encode_chunk, start_state
from tests.tiny_model import ENCODER, TOKENS, write_model

RATE = 16000
CHUNK = 4


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    _, path = write_model(
        folder,
        input_size=None,
        frontend="kaldi_fbank",
        frontend_conf={"fs": RATE, "n_mels": 8},
        encoder_conf={**ENCODER, "num_blocks": 2, "chunk_sizes": [CHUNK, 8], "left_context": 6},
        decoder_conf={"embed_size": 4, "hidden_size": 6, "context": 2},
    )
    state = torch.load(path)
    state["joint_network.output.bias"][TOKENS.index("<unk>")] = -30.0  # a blank for sherpa-onnx
    torch.save(state, path)
    return path


@pytest.fixture(scope="module")
def exported(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exported")
    assert main([str(model), str(folder), "--streaming", "--chunk_ms", "160"]) == 0
    return folder


def test_the_encoder_remembers_in_its_states(model: Path, exported: Path) -> None:
    """Two streams in a batch, of which the second begins two chunks later."""
    ours = StreamingSpeech2Text.from_pretrained(str(model), chunk_ms=160).asr_model
    facts = json.loads((exported / "export.json").read_text())
    assert (facts["chunk"], facts["T"], facts["decode_chunk_len"]) == (CHUNK, 16, 16)
    session = onnxruntime.InferenceSession(str(exported / "encoder.onnx"))
    assert [i.name for i in session.get_inputs()] == ["x", "states", "frames"]
    packed = np.zeros((1, 2, facts["d_model"]), np.float32)
    frames = np.zeros((1, 2, facts["rnn_hidden_size"]), np.float32)
    wanted = [start_state(ours.encoder), start_state(ours.encoder)]
    generator = np.random.default_rng(0)
    for number in range(6):
        if number == 2:
            packed[:, 1], frames[:, 1] = 0, 0
            wanted[1] = start_state(ours.encoder)
        x = generator.standard_normal((2, 16, 8)).astype(np.float32)
        out, packed, frames = session.run(None, {"x": x, "states": packed, "frames": frames})
        for row in range(2):
            with torch.no_grad():
                part = torch.from_numpy(x[row : row + 1])
                found, wanted[row] = encode_chunk(ours.encoder, part, wanted[row])
                found = ours.joint_network.project_encoder(found)[0]
            np.testing.assert_allclose(out[row], found.numpy(), atol=1e-4)
            kept = torch.cat([t.flatten() for t in wanted[row].tensors()[1:]]).numpy()
            np.testing.assert_allclose(packed[0, row], kept, atol=1e-4)


def recogniser(folder: Path, method: str) -> Any:
    sherpa_onnx = pytest.importorskip("sherpa_onnx")
    return sherpa_onnx.OnlineRecognizer.from_transducer(
        tokens=str(folder / "tokens.txt"),
        **{name: str(folder / f"{name}.onnx") for name in ("encoder", "decoder", "joiner")},
        num_threads=1,
        feature_dim=8,
        sample_rate=RATE,
        decoding_method=method,
    )


@pytest.mark.parametrize("method", ["greedy_search", "modified_beam_search"])
def test_sherpa_hears_in_a_stream_what_we_hear(model: Path, exported: Path, method: str) -> None:
    theirs = recogniser(exported, method)
    ours = StreamingSpeech2Text.from_pretrained(str(model), chunk_ms=160)
    generator = np.random.default_rng(3)
    for seconds in (1.0, 1.7, 2.3):
        speech = (0.1 * generator.standard_normal(round(seconds * RATE))).astype(np.float32)
        stream = theirs.create_stream()
        for start in range(0, len(speech), 1111):
            stream.accept_waveform(RATE, speech[start : start + 1111])
            while theirs.is_ready(stream):
                theirs.decode_stream(stream)
        stream.input_finished()
        while theirs.is_ready(stream):
            theirs.decode_stream(stream)
        if (
            method == "modified_beam_search"
        ):  # it prunes otherwise than ours: a random model differs
            assert theirs.get_result(stream)
            continue
        with torch.no_grad():
            samples = torch.from_numpy(speech)[None]
            frames, _ = ours.asr_model.encode(samples, torch.tensor([len(speech)]))
            # It takes whole chunks alone, and only when one more feature is there.
            chunks = ((len(speech) + 80) // 160 - 1) // 16
            whole = frames[:, : chunks * CHUNK], torch.tensor([chunks * CHUNK])
            (found,) = ours.asr_model.transducer_greedy(*whole)
        text = "".join(TOKENS[token] for token in found.tokens).replace("<space>", " ")
        assert theirs.get_result(stream).split() == text.split() and text


def test_what_does_not_fit_is_refused(
    model: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    out = str(tmp_path / "out")
    assert main([str(model), out, "--streaming", "--chunk_ms", "100"]) == 2
    assert "100 ms does not fit the subsampling" in caplog.text
    assert main([str(model), out, "--chunk_ms", "160"]) == 2
    assert "--chunk_ms belongs to --streaming" in caplog.text
    offline = Path(__file__).resolve().parents[2] / "fixtures" / "mini_tts.zip"
    assert main([str(offline), out, "--streaming"]) == 2
    assert "sees whole utterances and cannot stream" in caplog.text
    assert not (tmp_path / "out").exists()
