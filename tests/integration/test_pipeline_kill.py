"""``kill -9`` of the whole process group in every step; the same command then goes on.

What "the same result" means here: after every step of the pipeline was killed once, the
alignment, the N-best lists and the parameters of every stage's averaged model are equal, bit by
bit, to those of a run that nobody killed. ESPnet saves a stage at the end of every epoch, so that
what a kill costs is the epoch that ran.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from espnet_plugin.corpora.kaldi_dir import write_ark, write_table

pytestmark = pytest.mark.slow
TOKENS = ("<blank>", "<unk>", "A", "B", "C", "<sos/eos>")
CONFIG = {
    "base": {
        "encoder": "conformer",
        "encoder_conf": {
            "output_size": 16,
            "attention_heads": 2,
            "linear_units": 16,
            "num_blocks": 2,
            "input_layer": "conv2d",
            "dropout_rate": 0.1,  # so that a random generator that is not restored would show
            "cnn_module_kernel": 3,
            "rel_pos_type": "latest",
            "pos_enc_layer_type": "rel_pos",
            "selfattention_layer_type": "rel_selfattn",
        },
        "decoder": "feedforward_prediction",
        "decoder_conf": {"embed_size": 8, "hidden_size": 16},
        "model_conf": {"joint_conf": {"joint_size": 16}},
        "specaug": "progressive",
        "specaug_conf": {"time_stretch": [0.9, 1.1], "noise_std": 0.1},
        "optim": "adam",
        "optim_conf": {"lr": 1e-3},
        "batch_type": "unsorted",
        "batch_size": 6,
        "accum_grad": 3,  # of 4 batches an epoch: one is left over
        "accelerators": {
            "layer_drop": {"theta": 0.6},
            "precision": {"until": 0.7},
            "rep_conv": {"kernels": [3, 1]},  # whose branches no model file has
            "sparse": {"sparsity": 0.5, "every": 1},
        },
        "num_workers": 0,
        "keep_nbest_models": 2,
        "use_tensorboard": False,
        "use_matplotlib": False,
        "num_att_plot": 0,
    },
    "train_stages": {
        # two augmentations of each utterance, a part of whose random numbers is common
        "align": {"loss": "ctc", "loss_conf": {"consistency_scale": 0.2}, "max_epoch": 2},
        "viterbi": {"max_epoch": 2},
        "full_sum": {
            "loss_conf": {"encoder_scale": 0.1, "consistency_scale": 0.02},
            "max_epoch": 2,
        },
        "mbr": {"max_epoch": 2},
        "lf_mmi": {"loss": "lf_mmi", "loss_conf": {"ce_scale": 0.05}, "max_epoch": 2},
    },
    "stage_scheduler_conf": {"stages": ["align", "viterbi", "full_sum", "mbr", "lf_mmi"]},
    # No prior: it would cost one more ESPnet start in each run.
    "alignment": {"prior_scale": 0, "batch_size": 1},
    "nbest": {"nbest": 2, "beam_size": 2, "batch_size": 1},
}


def make_corpus(root: Path) -> None:
    """Random features of 24 + 6 utterances, and ESPnet's statistics of them."""
    generator = np.random.default_rng(0)
    for part, count in (("train", 24), ("valid", 6)):
        keys = [f"{part}{n:02d}" for n in range(count)]
        matrices = {k: generator.standard_normal((40 + 2 * i, 8)) for i, k in enumerate(keys)}
        rows = write_ark(root / f"{part}.ark", matrices.items())
        text = {k: "".join(generator.choice(list("ABC"), 4)) for k in keys}
        data, stats = root / "dump" / part, root / "stats" / part
        write_table(data / "feats.scp", rows)
        write_table(data / "text", text)
        (data / "feats_dim").write_text("8\n")
        write_table(stats / "speech_shape", {k: f"{len(m)},8" for k, m in matrices.items()})
        write_table(stats / "text_shape.char", dict.fromkeys(keys, f"4,{len(TOKENS)}"))
        frames = np.concatenate(list(matrices.values()))
        np.savez(
            stats / "feats_stats.npz",
            count=len(frames),
            sum=frames.sum(0),
            sum_square=(frames**2).sum(0),
        )
    (root / "tokens.txt").write_text("".join(f"{token}\n" for token in TOKENS))
    (root / "pipeline.yaml").write_text(yaml.safe_dump(CONFIG, sort_keys=False))


def start(root: Path, tag: str, python: str) -> subprocess.Popen[bytes]:
    """The pipeline in a process group of its own."""
    command = [
        *(sys.executable, "-m", "espnet_plugin.bin.train", "--config", str(root / "pipeline.yaml")),
        *("--expdir", str(root / "exp"), "--tag", tag, "--train_data", str(root / "dump/train")),
        *("--valid_data", str(root / "dump/valid"), "--stats_dir", str(root / "stats")),
        *("--feats_type", "extracted", "--token_list", str(root / "tokens.txt")),
        *("--python", python),
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with (root / f"{tag}.log").open("ab") as log:
        return subprocess.Popen(
            command, stdout=log, stderr=log, env=environment, start_new_session=True
        )


def contains(path: Path, text: str) -> bool:
    return path.exists() and text in path.read_text(errors="replace")


def moments(exp: Path) -> dict[str, Callable[[], bool]]:
    """When to kill each step: in the middle of its work."""
    return {
        "train:align": lambda: contains(exp / "align/train.log", "1epoch results"),
        "job:alignment": lambda: contains(exp / "alignment/logdir/output.1/alignment", "\n"),
        "train:viterbi": lambda: contains(exp / "viterbi/train.log", "2/2epoch started"),
        # between the writing of a checkpoint and of the epoch's model
        "train:full_sum": lambda: (exp / "full_sum/checkpoint.prev.pth").exists(),
        "job:nbest": lambda: contains(exp / "nbest/logdir/output.1/nbest", "\n"),
        "train:mbr": lambda: contains(exp / "mbr/train.log", "1epoch results"),
        "train:lf_mmi": lambda: contains(exp / "lf_mmi/train.log", "1epoch results"),
    }


def run_with_kills(root: Path, tag: str, python: str) -> list[str]:
    """Kill the group once in every step, then let it finish; returns the steps killed."""
    killed = []
    process = start(root, tag, python)
    for step, reached in moments(root / "exp" / tag).items():
        while not reached():
            if process.poll() is not None:
                pytest.fail(f"ended before {step}:\n{(root / f'{tag}.log').read_text()[-3000:]}")
            time.sleep(0.002)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        killed.append(step)
        process = start(root, tag, python)
    assert process.wait() == 0, (root / f"{tag}.log").read_text()[-3000:]
    return killed


def test_killed_in_every_step_gives_the_same_models(tmp_path: Path, preloaded_python: str) -> None:
    make_corpus(tmp_path)
    undisturbed = start(tmp_path, "whole", preloaded_python)
    try:
        killed = run_with_kills(tmp_path, "killed", preloaded_python)
        assert undisturbed.wait() == 0, (tmp_path / "whole.log").read_text()[-3000:]
    finally:
        if undisturbed.poll() is None:
            os.killpg(undisturbed.pid, signal.SIGKILL)
    whole, other = tmp_path / "exp/whole", tmp_path / "exp/killed"
    steps = json.loads((other / "pipeline.json").read_text())["steps"]
    assert list(steps) == killed
    assert {name: step["attempts"] for name, step in steps.items()} == dict.fromkeys(killed, 2)
    made = ("alignment/alignment", "nbest/nbest", "nbest/nbest_lm", "nbest/nbest_risk")
    for name in (*made, "lf_mmi/label_bigram.arpa"):
        assert (whole / name).read_bytes() == (other / name).read_bytes(), name
    for stage in ("align", "viterbi", "full_sum", "mbr", "lf_mmi"):
        models = [
            torch.load(exp / stage / "valid.loss.ave.pth", weights_only=True)
            for exp in (whole, other)
        ]
        assert models[0].keys() == models[1].keys()
        for name, value in models[0].items():
            assert torch.equal(value, models[1][name]), f"{stage}: {name} differs"
