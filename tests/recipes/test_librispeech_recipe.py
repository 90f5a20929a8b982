"""egs2/librispeech/asr1/run.sh on a tiny LibriSpeech: from the corpus to the packed model."""

from __future__ import annotations

import os
import subprocess
import zipfile
from pathlib import Path

import pytest
import yaml

from tests.recipes.librispeech_corpus import make_librispeech, make_resources, speak, table

pytest.importorskip("espeakng_loader")
pytest.importorskip("soundfile")
pytestmark = pytest.mark.slow

REPO = Path(__file__).resolve().parents[2]
RECIPE = REPO / "egs2" / "librispeech" / "asr1"
OPTIONS = ["--speed_perturb_factors", "1.0 1.1", "--decode_stages", "final"]
TESTS = ["dev_clean", "dev_other", "test_clean", "test_other"]
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
        "frontend_conf": {"n_fft": 400, "win_length": 400, "hop_length": 160, "n_mels": 20},
        "normalize": "global_mvn",
        "batch_type": "numel", "batch_bins": 160000, "num_workers": 0,
        "optim": "adam", "optim_conf": {"lr": 2.0e-3}, "grad_clip": 5.0,
        "keep_nbest_models": [1], "use_tensorboard": False, "num_att_plot": 0, "seed": 1,
        "best_model_criterion": [["valid", "loss", "min"]],
    },
    "train_stages": {
        "align": {"loss": "ctc", "loss_conf": {"topology": "monotonic"}, "max_epoch": 8},
        "viterbi": {"loss": "viterbi", "max_epoch": 2},
        "full_sum": {"loss": "full_sum", "max_epoch": 3},
        "mbr": {"loss": "mbr", "max_epoch": 1},
    },
    "alignment": {"source": "encoder", "prior_scale": 0.3, "batch_size": 16},
    "nbest": {
        "nbest": 2, "beam_size": 4, "batch_size": 16, "search": "lexicon", "look_ahead": "unigram",
        "lexicon": "data/token_list/phn/lexicon.txt", "lm": ["word:data/local/word_lm.arpa.gz:0.4"],
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that stands for egs2/librispeech/asr1: its outputs stay out of the source tree."""
    folder = tmp_path_factory.mktemp("librispeech")
    for name in ("local", "conf", "path.sh", "cmd.sh", "db.sh", "progressive.sh"):
        (folder / name).symlink_to(RECIPE / name)
    (folder / "run.sh").write_bytes((RECIPE / "run.sh").read_bytes())
    (folder / "run.sh").chmod(0o755)
    (folder / "tiny.yaml").write_text(yaml.safe_dump(TINY))
    speech = speak(folder / "speech", train=60, evaluation=12)
    make_librispeech(folder / "corpus" / "LibriSpeech", speech)
    make_resources(folder / "slr11", list(table(speech["train"] / "text").values()))
    return folder


def run(recipe: Path, python: str, *options: str) -> str:
    """Run the recipe; returns its standard output."""
    command = [
        "./run.sh", "--librispeech", "corpus", "--train_parts", "100",
        "--local_data_opts", "--lm_resources slr11 --allow_subset",
        "--asr_config", "tiny.yaml", "--nj", "2", "--train_threads", "1",
        "--python", python, "--preload", "false", *options,
    ]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "LIBRISPEECH": ""}
    done = subprocess.run(
        command, cwd=recipe, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return done.stdout


def test_from_the_corpus_to_the_scored_table_and_the_packed_model(
    recipe: Path, preloaded_python: str
) -> None:
    run(recipe, preloaded_python, *OPTIONS, "--stop_stage", "11")

    tokens = (recipe / "data/token_list/phn/tokens.txt").read_text().split()
    labels = [token for token in tokens if not token.startswith("<")]
    assert len(labels) == 78 and tokens[0] == "<blank>"
    lexicon = table(recipe / "data/token_list/phn/lexicon.txt")
    assert lexicon["ONE"] == "W AH N" and lexicon["ANSWER"]  # the latter from the G2P model

    train = table(recipe / "data/train_clean_100/text")
    perturbed = table(recipe / "dump/raw/org/train_clean_100_sp/text")
    assert len(train) == 60
    assert perturbed == {**train, **{f"sp1.1-{key}": text for key, text in train.items()}}

    exp = recipe / "exp/tiny_raw_phn"
    for stage in ("align", "viterbi", "full_sum", "mbr"):
        assert (exp / stage / "valid.loss.ave.pth").exists()
    rates = word_error_rates(exp / "RESULTS.md")
    assert set(rates) == {f"mbr_lexicon_lm/{name}" for name in TESTS}
    # Unseen readers, four words: something was learnt, whatever the machine's arithmetic.
    assert max(rates.values()) < 60, rates
    for name in TESTS:
        decoded = (exp / f"decode/mbr_lexicon_lm/{name}/text").read_text().splitlines()
        assert {word for line in decoded for word in line.split()[1:]} <= set(lexicon)
    (archive,) = exp.glob("*.zip")
    with zipfile.ZipFile(archive) as packed:
        names = {Path(name).name for name in packed.namelist()}
    assert {"meta.yaml", "tokens.txt", "lexicon.txt", "word_lm.arpa.gz"} <= names


def word_error_rates(results: Path) -> dict[str, float]:
    """The table under "WER": {decoding/set: per cent}."""
    section = results.read_text().split("### WER")[1].split("###")[0]
    rows = [line.strip("|").split("|") for line in section.splitlines() if "/" in line]
    return {row[0]: float(row[7]) for row in rows}


def test_the_same_command_again_does_nothing_anew(recipe: Path, preloaded_python: str) -> None:
    if not (recipe / "exp").exists():
        pytest.skip("needs the run of the test above")
    mbr = recipe / "exp/tiny_raw_phn/mbr/valid.loss.ave.pth"
    before = mbr.stat().st_mtime_ns
    out = run(recipe, preloaded_python, *OPTIONS, "--stop_stage", "6")
    assert "up to date" in out and mbr.stat().st_mtime_ns == before
