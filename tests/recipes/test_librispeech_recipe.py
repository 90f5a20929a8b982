"""egs2/librispeech/asr1/run.sh on a tiny LibriSpeech: from the corpus to the packed model."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from tests.recipes.librispeech_corpus import make_librispeech, make_resources, speak, table
from tests.recipes.tiny_recipe import pipeline, run_sh, stand_in

pytest.importorskip("espeakng_loader")
pytest.importorskip("soundfile")
pytestmark = pytest.mark.slow

OPTIONS = ["--speed_perturb_factors", "1.0 1.1", "--decode_stages", "final"]
TESTS = ["dev_clean", "dev_other", "test_clean", "test_other"]
TINY = pipeline(
    {
        "frontend_conf": {"n_fft": 400, "win_length": 400, "hop_length": 160, "n_mels": 20},
        "batch_bins": 160000,
    },
    epochs={"align": 8, "viterbi": 2, "full_sum": 3, "mbr": 1},
    nbest={
        "nbest": 2, "beam_size": 4, "search": "lexicon", "look_ahead": "unigram",
        "lexicon": "data/token_list/phn/lexicon.txt", "lm": ["word:data/local/word_lm.arpa.gz:0.4"],
    },
)  # fmt: skip


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that stands for egs2/librispeech/asr1: its outputs stay out of the source tree."""
    folder = tmp_path_factory.mktemp("librispeech")
    stand_in("librispeech", folder, TINY)
    speech = speak(folder / "speech", train=60, evaluation=12)
    make_librispeech(folder / "corpus" / "LibriSpeech", speech)
    make_resources(folder / "slr11", list(table(speech["train"] / "text").values()))
    return folder


def run(recipe: Path, python: str, *options: str) -> str:
    """Run the recipe; returns its standard output."""
    corpus = ("--librispeech", "corpus", "--train_parts", "100")
    data = ("--local_data_opts", "--lm_resources slr11 --allow_subset")
    return run_sh(recipe, python, *corpus, *data, *options, emptied=["LIBRISPEECH"])


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
