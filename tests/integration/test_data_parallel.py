"""Two processes that share each batch learn what one learns: ESPnet's DDP, on CPUs (gloo)."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from espnet_plugin.nn.accelerators import private_file
from tests.unit.nn.test_irreducible import write as write_losses
from tests.unit.nn.test_repa import write

pytestmark = pytest.mark.slow

TOKENS = ["<blank>", "<unk>", "A", "B", "C", "<sos/eos>"]
CONFIG = {
    "frontend": "default",
    "frontend_conf": {"n_fft": 400, "win_length": 400, "hop_length": 160, "n_mels": 10},
    "normalize": None,
    "specaug": None,
    "encoder": "progressive_conformer",
    "encoder_conf": {
        "output_size": 8, "attention_heads": 2, "linear_units": 8, "num_blocks": 2,
        "vgg_channels": [2, 2, 2], "dropout_rate": 0.0, "positional_dropout_rate": 0.0,
        "attention_dropout_rate": 0.0, "macaron_style": True, "rel_pos_type": "latest",
        "pos_enc_layer_type": "rel_pos", "selfattention_layer_type": "rel_selfattn",
        "cnn_module_kernel": 3, "interctc_layer_idx": [1],
    },
    "decoder": "feedforward_prediction",
    "decoder_conf": {"embed_size": 4, "hidden_size": 6, "num_layers": 1},
    "model": "progressive_transducer",
    # batch-norm statistics would be those of a process's own part of the batch
    "model_conf": {"joint_conf": {"joint_size": 7}, "freeze_batch_norm": True},
    "batch_type": "sorted", "batch_size": 4, "num_workers": 0,
    "optim": "sgd", "optim_conf": {"lr": 0.05}, "max_epoch": 2, "grad_clip": 5.0,
    "scheduler": "constantlineardecay",
    "scheduler_conf": {"initial_lr": 0.05, "decayed_lr": 0.01, "final_lr": 0.001},
    "num_att_plot": 0, "use_tensorboard": False, "use_matplotlib": False,
    "keep_nbest_models": [1], "seed": 3,
}  # fmt: skip


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight utterances of noise, with texts and an alignment."""
    soundfile = pytest.importorskip("soundfile")
    folder = tmp_path_factory.mktemp("noise")
    generator = np.random.default_rng(0)
    tables: dict[str, list[str]] = {
        name: [] for name in ("wav.scp", "text", "speech_shape", "text_shape", "alignment")
    }
    for number in range(8):
        # of one length: the front-end reflects the end of a batch's longest utterance only
        key, samples, text = f"u{number}", 8000, "A B C"[: 1 + 2 * (number % 3)]
        soundfile.write(folder / f"{key}.wav", 0.1 * generator.standard_normal(samples), 16000)
        frames = -(-(samples // 160 + 1) // 4)
        alignment = [0] * frames
        for position, label in enumerate(text.split()):
            alignment[3 * position + 2] = TOKENS.index(label)
        tables["wav.scp"].append(f"{key} {folder / key}.wav")
        tables["text"].append(f"{key} {text}")
        tables["speech_shape"].append(f"{key} {samples}")
        tables["text_shape"].append(f"{key} {len(text.split())},6")
        tables["alignment"].append(f"{key} {' '.join(map(str, alignment))}")
    for name, lines in tables.items():
        (folder / name).write_text("".join(f"{line}\n" for line in lines))
    (folder / "tokens.txt").write_text("".join(f"{token}\n" for token in TOKENS))
    (folder / "config.yaml").write_text(yaml.safe_dump(CONFIG))
    return folder


def command(
    data: Path, python: str, loss: str, folder: Path, config: str = "config.yaml"
) -> list[str]:
    files = [("wav.scp", "speech", "sound"), ("text", "text", "text")]
    if loss == "viterbi":
        files.append(("alignment", "alignment", "text_int"))
    arguments = [
        python,
        "-m",
        "espnet_plugin.jobs.asr_train",
        "--config",
        str(data / config),
    ]
    arguments += ["--output_dir", str(folder), "--token_list", str(data / "tokens.txt")]
    arguments += ["--token_type", "word", "--loss", loss, "--ngpu", "0"]
    for part in ("train", "valid"):
        for name, key, kind in files:
            arguments += [f"--{part}_data_path_and_name_and_type", f"{data / name},{key},{kind}"]
        for name in ("speech_shape", "text_shape"):
            arguments += [f"--{part}_shape_file", str(data / name)]
    return arguments


def train(
    data: Path,
    python: str,
    loss: str,
    folder: Path,
    processes: int,
    config: str = "config.yaml",
) -> dict[str, torch.Tensor]:
    """The model after the last epoch, each batch shared by ``processes``."""
    shared = [
        *("--dist_world_size", str(processes), "--dist_backend", "gloo"),
        *("--dist_init_method", f"file://{folder}.init"),
    ]
    running = []
    for rank in range(processes):
        arguments = command(data, python, loss, folder, config)
        if processes > 1:
            arguments += [*shared, "--dist_rank", str(rank), "--local_rank", str(rank)]
        with (folder.parent / f"{folder.name}.{rank}.log").open("w") as log:
            running.append(subprocess.Popen(arguments, stdout=log, stderr=subprocess.STDOUT))
    for rank, process in enumerate(running):
        log = folder.parent / f"{folder.name}.{rank}.log"
        assert process.wait(timeout=400) == 0, log.read_text()[-3000:]
    epochs = yaml.safe_load((data / config).read_text())["max_epoch"]
    return torch.load(folder / f"{epochs}epoch.pth", weights_only=True)


@pytest.mark.parametrize("loss", ["ctc", "viterbi", "full_sum"])
def test_two_processes_learn_what_one_learns(
    loss: str, data: Path, preloaded_python: str, tmp_path: Path
) -> None:
    one = train(data, preloaded_python, loss, tmp_path / "one", 1)
    two = train(data, preloaded_python, loss, tmp_path / "two", 2)
    assert one.keys() == two.keys()
    for name, value in one.items():
        assert torch.allclose(two[name], value, rtol=1e-4, atol=1e-5), name
    assert "epoch results" in (tmp_path / "two.0.log").read_text()


#: What processes have to do together: draws, private parameters, terms of the loss, masks.
TOGETHER: dict[str, dict[str, Any]] = {
    "draws": {"layer_drop": {"theta": 0.5}, "rep_conv": {"kernels": [3, 1]}, "slim": {"l1": 0.01}},
    "masks": {"sparse": {"sparsity": 0.5, "every": 1, "until": 0.9, "alpha": 0.6}},
    "average": {"ema": {"decay": 0.8}},
    "codes": {"repa": {"codes": "FOLDER", "block": 1, "hidden": 6}},
    "rho": {"selective": {"irreducible": "FOLDER", "keep": 0.5}},
    "teacher": {"distill": {"model": "FOLDER/teacher", "weight": 2.0}},
}
FRAMES = 13  # of the encoder, in each utterance


@pytest.mark.parametrize("name", TOGETHER)
def test_two_processes_agree_about_accelerators(
    name: str, data: Path, preloaded_python: str, tmp_path: Path
) -> None:
    config = f"{name}.yaml"
    if name == "codes":
        drawn = np.random.default_rng(1).integers(4, size=(8, FRAMES, 2))
        write(data, {f"u{n}": torch.from_numpy(codes) for n, codes in enumerate(drawn)}, codes=4)
    if name == "rho":  # one of each process's part of a batch
        write_losses(data, {f"u{n}": -100.0 * (n % 4 < 2) for n in range(8)}, labels=TOKENS)
    if name == "teacher" and not (data / "teacher").exists():
        train(data, preloaded_python, "ctc", data / "teacher", 1)
    text = yaml.safe_dump({**CONFIG, "accelerators": TOGETHER[name]})
    (data / config).write_text(text.replace("FOLDER", str(data)))
    one = train(data, preloaded_python, "full_sum", tmp_path / "one", 1, config)
    two = train(data, preloaded_python, "full_sum", tmp_path / "two", 2, config)
    for key, value in one.items():
        assert torch.allclose(two[key], value, rtol=1e-3, atol=1e-4), key
    if name == "masks":
        states = [private_file.read(tmp_path / run)[2]["sparse"]["masks"] for run in ("one", "two")]
        for key, mask in states[0].items():
            assert torch.equal(mask, states[1][key])


def test_two_processes_agree_about_pretraining(
    data: Path, preloaded_python: str, tmp_path: Path
) -> None:
    """The same code books, and one output layer, which no model's file has."""
    # everything is masked, and silent: masks are drawn by each process
    masks = {"mask_prob": 1.0, "mask_frames": 12, "noise": 0.0}
    given = {**CONFIG, "loss_conf": {"codes": 8, "dim": 4, "books": 2, **masks}}
    (data / "best_rq.yaml").write_text(yaml.safe_dump(given))
    runs = {
        name: train(data, preloaded_python, "best_rq", tmp_path / name, count, "best_rq.yaml")
        for name, count in (("one", 1), ("two", 2))
    }
    heads = [private_file.read(tmp_path / name)[2]["loss_head"] for name in runs]
    for one, two in (tuple(runs.values()), heads):
        assert one.keys() == two.keys()
        for key, value in one.items():
            if "counts" not in key:  # of codes, each process has its own
                assert torch.allclose(two[key], value, rtol=1e-3, atol=1e-4), key
    assert "output.weight" in heads[0]
    saved = torch.load(tmp_path / "two" / "checkpoint.pth", weights_only=True)
    losses = [saved["reporter"]["stats"][epoch]["train"]["loss"] for epoch in (1, 2)]
    assert losses[1] < losses[0]


#: Options, and what they set in each of four epochs.
PRECISION: dict[str, tuple[dict[str, Any], str, list[float]]] = {
    "bfloat16": ({"autocast": "bfloat16", "until": 0.5}, "low", [1, 1, 0, 0]),
    "bits": (
        {"fake_bits": [6, 12], "grad_bits": [8, 12], "threshold": 9.0, "window": 2},
        "bits",
        [6, 6, 12, 12],
    ),
}


@pytest.mark.parametrize("name", PRECISION)
def test_two_processes_agree_about_precision(
    name: str, data: Path, preloaded_python: str, tmp_path: Path
) -> None:
    """Sums over a process's part are rounded, so parameters are near, and settings the same."""
    options, key, expected = PRECISION[name]
    given = {**CONFIG, "max_epoch": 4, "accelerators": {"precision": options}}
    (data / f"{name}.yaml").write_text(yaml.safe_dump(given))
    runs = []
    for processes in (1, 2):
        folder = tmp_path / str(processes)
        runs.append(train(data, preloaded_python, "full_sum", folder, processes, f"{name}.yaml"))
        saved = torch.load(folder / "checkpoint.pth", weights_only=True)
        stats = saved["reporter"]["stats"]
        assert [stats[e]["train"][f"precision_{key}"] for e in (1, 2, 3, 4)] == expected
    for key, value in runs[0].items():
        assert torch.allclose(runs[1][key], value, rtol=1e-3, atol=1e-3), key


def test_two_processes_remember_the_losses_of_both(
    data: Path, preloaded_python: str, tmp_path: Path
) -> None:
    (data / "selective.yaml").write_text(
        yaml.safe_dump({**CONFIG, "accelerators": {"selective": {}}})
    )
    train(data, preloaded_python, "full_sum", tmp_path / "two", 2, "selective.yaml")
    latest = private_file.read(tmp_path / "two")[2]["selective"]["latest"]
    assert len(latest) == 2 * 8  # epochs, utterances
