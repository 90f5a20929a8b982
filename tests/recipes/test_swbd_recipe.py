"""egs2/swbd/asr1/run.sh on a tiny Switchboard: from LDC's packages to the packed model."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest
import yaml

from espnet_plugin.scoring.hub5_nist import find_hubscr
from tests.recipes.swbd_corpus import write_all
from tests.recipes.swbd_speech import spoken_corpus

pytest.importorskip("espeakng_loader")
pytest.importorskip("soundfile")
pytest.importorskip("kaldingram")
pytestmark = pytest.mark.slow

REPO = Path(__file__).resolve().parents[2]
RECIPE = REPO / "egs2" / "swbd" / "asr1"
TINY = {
    "stage_scheduler": "progressive",
    "base": {
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
        "frontend_conf": {
            "fs": 8000, "n_fft": 256, "win_length": 200, "hop_length": 80, "n_mels": 20
        },
        "normalize": "global_mvn",
        "batch_type": "numel", "batch_bins": 80000, "num_workers": 0,
        "optim": "adam", "optim_conf": {"lr": 2.0e-3}, "grad_clip": 5.0,
        "keep_nbest_models": [1], "use_tensorboard": False, "use_matplotlib": False,
        "num_att_plot": 0, "seed": 1,
        "best_model_criterion": [["valid", "loss", "min"]],
    },
    "train_stages": {
        "align": {"loss": "ctc", "loss_conf": {"topology": "monotonic"}, "max_epoch": 12},
        "viterbi": {"loss": "viterbi", "max_epoch": 4},
        "full_sum": {"loss": "full_sum", "max_epoch": 6},
        "mbr": {"loss": "mbr", "max_epoch": 1, "optim_conf": {"lr": 1.0e-5}},
    },
    "alignment": {"source": "encoder", "prior_scale": 0.3, "batch_size": 16},
    "nbest": {"nbest": 2, "beam_size": 2, "batch_size": 16},
}  # fmt: skip
SUBSETS = [
    "eval2000/SWB", "eval2000/CH", "eval2000/all", "hub5e01/all", "rt03/FSH", "rt03/SWB",
    "rt03/all",
]  # fmt: skip


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that stands for egs2/swbd/asr1: its outputs stay out of the source tree."""
    folder = tmp_path_factory.mktemp("swbd")
    for name in ("local", "conf", "path.sh", "cmd.sh", "db.sh", "progressive.sh"):
        (folder / name).symlink_to(RECIPE / name)
    (folder / "run.sh").write_bytes((RECIPE / "run.sh").read_bytes())
    (folder / "run.sh").chmod(0o755)
    (folder / "tiny.yaml").write_text(yaml.safe_dump(TINY))
    paths = write_all(folder / "ldc", spoken_corpus(folder / "speech"))
    options = [f"--{name} {path.relative_to(folder)}" for name, path in paths.items()]
    (folder / "options").write_text(" ".join(options))
    return folder


def run(recipe: Path, python: str, *options: str) -> str:
    """Run the recipe; returns its standard output."""
    command = [
        "./run.sh", *(recipe / "options").read_text().split(),
        "--local_data_opts", "--allow_subset --dev_utts 12", "--ngram_order", "2",
        "--asr_config", "tiny.yaml", "--nj", "2", "--train_threads", "1",
        "--decode_stages", "full_sum mbr",
        "--python", python, "--preload", "false", *options,
    ]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command, cwd=recipe, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return done.stdout


def test_from_the_packages_to_the_scored_table_and_the_packed_model(
    recipe: Path, preloaded_python: str
) -> None:
    run(recipe, preloaded_python, "--stop_stage", "11")

    tokens = (recipe / "data/token_list/phn/tokens.txt").read_text().split()
    assert tokens[0] == "<blank>"
    assert len([token for token in tokens if not token.startswith("<")]) == 87
    train = (recipe / "data/train_nodup/text").read_text().splitlines()
    dev = (recipe / "data/train_dev/text").read_text().splitlines()
    assert len(dev) == 12 and len(train) + len(dev) == 100 + 4  # and a noise in each call
    words = {word for line in train + dev for word in line.split()[1:]}
    assert words == {"zero", "five", "six", "seven", "yeah", "[noise]"}

    exp = recipe / "exp/tiny_raw_phn"
    for stage in ("align", "viterbi", "full_sum", "mbr"):
        assert (exp / stage / "valid.loss.ave.pth").exists()
    results = (exp / "RESULTS.md").read_text()
    hub5 = results.split("## Hub5 scoring")[1]
    for stage in ("full_sum", "mbr"):
        for subset in SUBSETS:
            rates(hub5, stage, subset)
    # something was learnt: five words at random would be wrong far more often
    assert min(rates(hub5, stage, "eval2000/all") for stage in ("full_sum", "mbr")) < 60
    assert ("hubscr.pl`" in hub5) == (find_hubscr() is not None)
    assert list(exp.rglob("*.zip")), "no packed model"


def rates(table: str, stage: str, subset: str) -> float:
    """The error rate of a row, in per cent."""
    match = re.search(rf"^\|{stage}_[\w.]*/{subset}\|(.*)\|$", table, re.MULTILINE)
    assert match is not None, f"{stage} {subset}:\n{table}"
    return float(match[1].split("|")[-2])


def test_the_stand_in_scores_where_it_is_asked_for(recipe: Path, preloaded_python: str) -> None:
    if not (recipe / "exp").exists():
        pytest.skip("needs the run of the test above")
    step = ("--stage", "9", "--stop_stage", "9", "--local_score_opts", "--scorer own")
    run(recipe, preloaded_python, *step)
    text = (recipe / "exp/tiny_raw_phn/RESULTS.md").read_text()
    assert "our stand-in, not by NIST's hubscr.pl" in text and text.count("## Hub5 scoring") == 1
    rates(text, "mbr", "eval2000/all")
