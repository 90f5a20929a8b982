"""egs2/mboshi/asr1/run.sh on a tiny Mboshi: from the tar to the statistics for training."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.recipes.librispeech_corpus import table
from tests.recipes.mboshi_corpus import DEV, REST, TRAIN, length, make_tar_folder, name
from tests.recipes.tiny_recipe import pipeline, run_sh, stand_in

pytestmark = pytest.mark.slow
soundfile = pytest.importorskip("soundfile")

TINY = pipeline(
    {
        "frontend_conf": {"n_fft": 400, "win_length": 400, "hop_length": 160, "n_mels": 20},
        "batch_bins": 160000,
    },
    epochs={"align": 1, "viterbi": 1, "full_sum": 1, "mbr": 1},
    nbest={"nbest": 2, "beam_size": 4},
)


def test_from_the_tar_to_the_statistics(tmp_path: Path, preloaded_python: str) -> None:
    stand_in("mboshi", tmp_path, TINY)
    make_tar_folder(tmp_path / "corpus")
    data = ["--mboshi", str(tmp_path / "corpus")]
    data += ["--local_data_opts", f"--allow_subset --dev_sessions {DEV}"]
    run_sh(tmp_path, preloaded_python, *data, "--stop_stage", "5", emptied=["MBOSHI"])

    train = tmp_path / "dump/raw/org/train"
    for utterance, path in table(train / "wav.scp").items():
        assert path.endswith(".flac")  # decoded from Opus once, not in every epoch
        assert soundfile.info(tmp_path / path).frames == length(utterance)
    tokens = (tmp_path / "data/token_list/char/tokens.txt").read_text().split()
    letters = {letter for n in (2, 3) for letter in TRAIN[name(REST, n)] if letter != " "}
    assert set(tokens) == {"<blank>", "<unk>", "<space>", "<sos/eos>"} | letters
    (stats,) = (tmp_path / "exp").glob("stats_*")
    assert set(table(stats / "train/speech_shape")) == set(table(train / "wav.scp"))


def test_subwords_keep_the_composed_letters(tmp_path: Path, preloaded_python: str) -> None:
    stand_in("mboshi", tmp_path, TINY)
    make_tar_folder(tmp_path / "corpus")
    data = ["--mboshi", str(tmp_path / "corpus")]
    data += ["--local_data_opts", f"--allow_subset --dev_sessions {DEV}"]
    subwords = ["--token_type", "bpe", "--nbpe", "25", "--stop_stage", "3"]
    run_sh(tmp_path, preloaded_python, *data, *subwords, emptied=["MBOSHI"])

    sentencepiece = pytest.importorskip("sentencepiece")
    model = tmp_path / "data/token_list/bpe_unigram25/bpe.model"
    pieces = sentencepiece.SentencePieceProcessor(model_file=str(model))
    for n in (2, 3):
        text = TRAIN[name(REST, n)]
        assert pieces.decode(pieces.encode(text)) == text
