"""A stock ESPnet conformer transducer, nothing of ours but the loss: train an epoch, decode.

ESPnet's own `asr_train` and `asr_inference` with `decoder: transducer` and `model: espnet`, on a
few tones, with no `warprnnt_pytorch` installed.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
RATE = 8000
TOKENS = ["<blank>", "<unk>", "a", "b", "c", "<sos/eos>"]
PITCH = {"a": 400, "b": 900, "c": 1800}

CONFIG = """
encoder: conformer
encoder_conf:
  {output_size: 16, attention_heads: 2, linear_units: 16, num_blocks: 1, cnn_module_kernel: 7,
   macaron_style: true, use_cnn_module: true, input_layer: conv2d2}
decoder: transducer
decoder_conf: {rnn_type: lstm, num_layers: 1, hidden_size: 16}
joint_net_conf: {joint_space_size: 16}
model_conf: {ctc_weight: 0.0, report_cer: false, report_wer: false}
frontend_conf: {n_fft: 256, hop_length: 80, n_mels: 20, fs: 8000}
optim: adam
optim_conf: {lr: 0.001}
batch_type: unsorted
batch_size: 3
max_epoch: 1
num_workers: 0
normalize: null
use_matplotlib: false
"""


def make_data(folder: Path) -> None:
    """Six utterances of two or three tones each, as a Kaldi-style data directory."""
    soundfile = pytest.importorskip("soundfile")
    generator = np.random.default_rng(0)
    files: dict[str, list[str]] = {"wav.scp": [], "text": [], "shape": []}
    for number, words in enumerate(["ab", "bca", "cc", "ba", "acb", "b"]):
        time = np.arange(RATE // 5) / RATE
        wave = np.concatenate([np.sin(2 * np.pi * PITCH[c] * time) for c in words])
        wave = 0.3 * wave + 0.01 * generator.standard_normal(len(wave))
        soundfile.write(folder / f"{number}.wav", wave, RATE)
        files["wav.scp"].append(f"u{number} {folder / f'{number}.wav'}")
        files["text"].append(f"u{number} {words}")
        files["shape"].append(f"u{number} {len(wave)}")
    files["tokens"] = TOKENS
    for name, lines in files.items():
        (folder / name).write_text("\n".join(lines) + "\n")
    (folder / "train.yaml").write_text(CONFIG)


def espnet(command: str, folder: Path, *arguments: str) -> str:
    """Run a stock ESPnet command after the opt-in call; its output."""
    code = (
        "from espnet_plugin.compat import install_warprnnt\n"
        "assert install_warprnnt()\n"
        f"from espnet2.bin.{command} import main\n"
        "main()\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout + result.stderr


@pytest.mark.slow
def test_train_and_decode(tmp_path: Path) -> None:
    pytest.importorskip("espnet2")
    if importlib.util.find_spec("warprnnt_pytorch") is not None:
        pytest.skip("the real warprnnt_pytorch is installed")
    make_data(tmp_path)
    data = []
    for split in ("train", "valid"):
        data += [f"--{split}_data_path_and_name_and_type", "wav.scp,speech,sound"]
        data += [f"--{split}_data_path_and_name_and_type", "text,text,text"]
        data += [f"--{split}_shape_file", "shape"]
    tokens = ["--token_type", "char", "--token_list", "tokens"]
    log = espnet(
        "asr_train", tmp_path, "--config", "train.yaml", "--output_dir", "exp", *tokens, *data
    )
    assert "loss_transducer" in log
    espnet(
        "asr_inference",
        tmp_path,
        *("--asr_train_config", "exp/config.yaml"),
        *("--asr_model_file", "exp/valid.loss.best.pth"),
        *("--data_path_and_name_and_type", "wav.scp,speech,sound"),
        *("--output_dir", "decode", "--beam_size", "3", "--ctc_weight", "0.0"),
    )
    recognised = (tmp_path / "decode/1best_recog/text").read_text().splitlines()
    assert [line.split(maxsplit=1)[0] for line in recognised] == [f"u{n}" for n in range(6)]
