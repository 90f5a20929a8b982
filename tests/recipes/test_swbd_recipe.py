"""egs2/swbd/asr1/run.sh on a tiny Switchboard: from LDC's packages to the packed model."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from espnet_plugin.scoring.hub5_nist import find_hubscr
from tests.recipes.swbd_corpus import write_all
from tests.recipes.swbd_speech import spoken_corpus
from tests.recipes.tiny_recipe import pipeline, run_sh, stand_in

pytest.importorskip("espeakng_loader")
pytest.importorskip("soundfile")
pytest.importorskip("kaldingram")
pytestmark = pytest.mark.slow

TINY = pipeline(
    {
        "frontend_conf": {
            "fs": 8000, "n_fft": 256, "win_length": 200, "hop_length": 80, "n_mels": 20
        },
        "batch_bins": 80000,
        "use_matplotlib": False,
    },
    epochs={"align": 12, "viterbi": 4, "full_sum": 6, "mbr": 1},
    nbest={"nbest": 2, "beam_size": 2},
    optim_conf={"lr": 1.0e-5},
)  # fmt: skip
SUBSETS = [
    "eval2000/SWB", "eval2000/CH", "eval2000/all", "hub5e01/all", "rt03/FSH", "rt03/SWB",
    "rt03/all",
]  # fmt: skip


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that stands for egs2/swbd/asr1: its outputs stay out of the source tree."""
    folder = tmp_path_factory.mktemp("swbd")
    stand_in("swbd", folder, TINY)
    paths = write_all(folder / "ldc", spoken_corpus(folder / "speech"))
    options = [f"--{name} {path.relative_to(folder)}" for name, path in paths.items()]
    (folder / "options").write_text(" ".join(options))
    return folder


def run(recipe: Path, python: str, *options: str) -> str:
    """Run the recipe; returns its standard output."""
    paths = (recipe / "options").read_text().split()
    data = ("--local_data_opts", "--allow_subset --dev_utts 12", "--ngram_order", "2")
    return run_sh(recipe, python, *paths, *data, "--decode_stages", "full_sum mbr", *options)


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


def test_the_packed_model_gets_its_own_hub5_scores(recipe: Path, preloaded_python: str) -> None:
    if not (recipe / "exp").exists():
        pytest.skip("needs the run of the test above")
    exp = recipe / "exp/tiny_raw_phn"
    trained = (exp / "RESULTS.md").read_text()
    paths = (recipe / "options").read_text().split()
    model = ("--download_model", str(exp / "tiny_raw_phn.zip"), "--eval_valid_set", "false")
    run_sh(recipe, preloaded_python, *paths, "--stage", "8", *model)
    text = (recipe / "exp/tiny_raw_phn_evaluated/RESULTS.md").read_text()
    hub5 = text.split("## Hub5 scoring")[1]
    assert rates(hub5, "mbr", "eval2000/all") == rates(trained, "mbr", "eval2000/all")
    assert (exp / "RESULTS.md").read_text() == trained
