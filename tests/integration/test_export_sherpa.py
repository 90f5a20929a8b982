"""A model of tones, trained in seconds, exported, and recognised by the real sherpa-onnx."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from tests.tiny_model import ENCODER, TOKENS, write_model

pytestmark = pytest.mark.slow
RATE = 16000
TONES = {"A": 500.0, "B": 1500.0, " ": 0.0}
STEPS = 200


def speak(text: str, generator: np.random.Generator) -> np.ndarray:
    """A tone of 0.12 to 0.2 s a letter, with pauses between, in faint noise."""
    pieces = [np.zeros(800)]
    for letter in text:
        length = int(RATE * generator.uniform(0.12, 0.2))
        times = np.arange(length) / RATE
        pitch = TONES[letter] * generator.uniform(0.95, 1.05)
        pieces += [0.3 * np.sin(2 * np.pi * pitch * times), np.zeros(640)]
    speech = np.concatenate([*pieces, np.zeros(800)])
    noisy: np.ndarray = speech + 0.003 * generator.standard_normal(len(speech))
    return noisy.astype(np.float32)


def texts(count: int, generator: np.random.Generator) -> list[str]:
    letters = ("A", "B")
    return [
        " ".join(
            "".join(generator.choice(letters, generator.integers(1, 3)))
            for _ in range(generator.integers(1, 4))
        )
        for _ in range(count)
    ]


def batch(count: int, generator: np.random.Generator) -> dict[str, torch.Tensor]:
    said = texts(count, generator)
    speech = [torch.from_numpy(speak(text, generator)) for text in said]
    ids = [[TOKENS.index("<space>" if c == " " else c) for c in text] for text in said]
    pad = torch.nn.utils.rnn.pad_sequence
    return {
        "speech": pad(speech, batch_first=True),
        "speech_lengths": torch.tensor([len(s) for s in speech]),
        "text": pad([torch.tensor(i) for i in ids], batch_first=True, padding_value=-1),
        "text_lengths": torch.tensor([len(i) for i in ids]),
    }


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a trained stage: config.yaml and valid.loss.ave.pth."""
    from espnet_plugin.tasks.progressive import ProgressiveASRTask

    folder = tmp_path_factory.mktemp("tones")
    config, model_file = write_model(
        folder,
        input_size=None,
        frontend="kaldi_fbank",
        frontend_conf={"fs": RATE, "n_mels": 24},
        encoder_conf={
            **ENCODER,
            "output_size": 32,
            "linear_units": 32,
            "vgg_channels": [4, 8, 8],
            "dropout_rate": 0.0,
            "positional_dropout_rate": 0.0,
            "cnn_module_kernel": 5,
        },
        decoder_conf={"embed_size": 8, "hidden_size": 16, "context": 2},
        model_conf={"joint_conf": {"joint_size": 24}, "report_wer": False, "report_cer": False},
    )
    torch.manual_seed(1)
    model, _ = ProgressiveASRTask.build_model_from_file(config)
    optimizer = torch.optim.Adam(model.parameters(), lr=4e-3)
    generator = np.random.default_rng(1)
    for _ in range(STEPS):
        loss, _, _ = model.train()(**batch(16, generator))
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
    assert loss.item() < 2.0, "the toy was not learned"
    torch.save(model.state_dict(), model_file)
    return folder


@pytest.fixture(scope="module")
def exported(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from espnet_plugin.bin.export import main

    folder = tmp_path_factory.mktemp("an exported model")
    (model_file,) = trained.glob("*.pth")
    assert main([str(model_file), str(folder)]) == 0
    return folder


def recogniser(folder: Path, method: str, suffix: str) -> Callable[[np.ndarray], str]:
    sherpa_onnx = pytest.importorskip("sherpa_onnx")
    names = ("encoder", "decoder", "joiner")
    recogniser = sherpa_onnx.OfflineRecognizer.from_transducer(
        *(str(folder / f"{name}{suffix}.onnx") for name in names),
        tokens=str(folder / "tokens.txt"),
        feature_dim=24,
        sample_rate=RATE,
        num_threads=1,
        decoding_method=method,
    )

    def recognise(speech: np.ndarray) -> str:
        stream = recogniser.create_stream()
        stream.accept_waveform(RATE, speech)
        recogniser.decode_stream(stream)
        return str(stream.result.text).strip()

    return recognise


@pytest.mark.parametrize("suffix", ["", ".int8"])
@pytest.mark.parametrize("method", ["greedy_search", "modified_beam_search"])
def test_sherpa_hears_what_we_hear(trained: Path, exported: Path, method: str, suffix: str) -> None:
    from espnet_plugin.inference.speech2text import Speech2Text

    search = {"search": "greedy"} if method == "greedy_search" else {"beam_size": 4}
    (model_file,) = trained.glob("*.pth")
    ours = Speech2Text(trained / "config.yaml", model_file, **search)
    theirs = recogniser(exported, method, suffix)
    generator = np.random.default_rng(2)
    said = texts(20, generator)
    speech = [speak(text, generator) for text in said]
    found = [theirs(s) for s in speech]
    assert sum(a == b for a, b in zip(found, said, strict=True)) >= 18, list(
        zip(said, found, strict=True)
    )
    same = sum(a == ours(s)[0][0].strip() for a, s in zip(found, speech, strict=True))
    assert same >= (20 if not suffix else 19)


def test_the_folder_says_what_is_in_it(exported: Path) -> None:
    facts = yaml.safe_load((exported / "export.json").read_text())
    assert (facts["feature_dim"], facts["sample_rate"], facts["context_size"]) == (24, RATE, 2)
    tokens = (exported / "tokens.txt").read_text(encoding="utf-8").splitlines()
    assert tokens[0] == "<blk> 0" and f"▁ {TOKENS.index('<space>')}" in tokens
    small = (exported / "encoder.int8.onnx").stat().st_size
    assert small < (exported / "encoder.onnx").stat().st_size
