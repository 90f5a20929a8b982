"""What tests that run a whole recipe share: a very small model, a folder, the call of run.sh."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

REPO = Path(__file__).resolve().parents[2]
BASE: dict[str, Any] = {
    "encoder": "progressive_conformer",
    "encoder_conf": {
        "output_size": 48, "attention_heads": 2, "linear_units": 96, "num_blocks": 2,
        "vgg_channels": [8, 8, 8], "cnn_module_kernel": 7, "macaron_style": True,
        "rel_pos_type": "latest", "pos_enc_layer_type": "rel_pos",
        "selfattention_layer_type": "rel_selfattn", "interctc_layer_idx": [1],
    },
    "decoder": "feedforward_prediction",
    "decoder_conf": {"embed_size": 16, "hidden_size": 32, "num_layers": 1, "context": 1},
    "model": "progressive_transducer",
    "model_conf": {"topology": "monotonic", "joint_conf": {"joint_size": 32}},
    "frontend": "default",
    "normalize": "global_mvn",
    "batch_type": "numel", "num_workers": 0,
    "optim": "adam", "optim_conf": {"lr": 2.0e-3}, "grad_clip": 5.0,
    "keep_nbest_models": [1], "use_tensorboard": False, "num_att_plot": 0, "seed": 1,
    "best_model_criterion": [["valid", "loss", "min"]],
}  # fmt: skip


def pipeline(
    base: Mapping[str, Any], epochs: Mapping[str, int], nbest: Mapping[str, Any], **mbr: Any
) -> dict[str, Any]:
    """The pipeline's YAML.

    Args:
        base: front-end and batch size of the corpus.
        epochs: of each train stage.
        nbest: options of the N-best lists besides their batch size.
        mbr: further options of stage mbr.
    """
    stages: dict[str, dict[str, Any]] = {
        name: {"loss": name, "max_epoch": epochs[name]} for name in ("viterbi", "full_sum", "mbr")
    }
    stages["mbr"] |= mbr
    align = {"loss": "ctc", "loss_conf": {"topology": "monotonic"}, "max_epoch": epochs["align"]}
    return {
        "stage_scheduler": "progressive",
        "base": {**BASE, **base},
        "train_stages": {"align": align, **stages},
        "alignment": {"source": "encoder", "prior_scale": 0.3, "batch_size": 16},
        "nbest": {**nbest, "batch_size": 16},
    }


def stand_in(corpus: str, folder: Path, config: Mapping[str, Any]) -> None:
    """Make ``folder`` stand for egs2/<corpus>/asr1: its outputs stay out of the source tree."""
    recipe = REPO / "egs2" / corpus / "asr1"
    for name in ("local", "conf", "path.sh", "cmd.sh", "db.sh", "progressive.sh"):
        (folder / name).symlink_to(recipe / name)
    (folder / "run.sh").write_bytes((recipe / "run.sh").read_bytes())
    (folder / "run.sh").chmod(0o755)
    (folder / "tiny.yaml").write_text(yaml.safe_dump(dict(config)))


def run_sh(folder: Path, python: str, *options: str, emptied: Sequence[str] = ()) -> str:
    """Run the recipe in ``folder``; returns its standard output.

    Args:
        emptied: variables of the environment that the recipe must not see.
    """
    command = [
        "./run.sh", "--asr_config", "tiny.yaml", "--nj", "2", "--train_threads", "1",
        "--python", python, "--preload", "false", *options,
    ]  # fmt: skip
    variables = {**os.environ, "OMP_NUM_THREADS": "1", **dict.fromkeys(emptied, "")}
    done = subprocess.run(
        command, cwd=folder, env=variables, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return done.stdout
