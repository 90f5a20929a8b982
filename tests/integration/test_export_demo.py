"""The demo model on Kaldi's filterbanks, exported, in the real sherpa-onnx: same words as here."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from espnet_plugin.data.kaldi_files import read_table
from espnet_plugin.search.levenshtein import levenshtein

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[2]
RECIPE = ROOT / "egs2/mini_tts/asr1"
MODEL = ROOT / "tests/fixtures/mini_tts_fbank.zip"
UTTERANCES, WORDS_WRONG = 30, 0.1
Spoken = list[tuple[np.ndarray, str]]


@pytest.fixture(scope="module")
def spoken(tmp_path_factory: pytest.TempPathFactory) -> Spoken:
    """Samples and words of the first utterances of the demo's test set."""
    pytest.importorskip("espeakng_loader")
    folder = tmp_path_factory.mktemp("mini_tts") / "data"
    counts = ["--num_train", "1", "--num_dev", "1", "--num_test", str(UTTERANCES)]
    subprocess.run(
        [sys.executable, "local/data.py", "--output", str(folder), *counts],
        cwd=RECIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=True,
    )
    paths, texts = (read_table(folder / "test" / name) for name in ("wav.scp", "text"))
    return [(soundfile.read(paths[key], dtype="float32")[0], texts[key]) for key in paths]


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from espnet_plugin.bin.export import main

    folder = tmp_path_factory.mktemp("exported") / "demo"
    assert main([str(MODEL), str(folder)]) == 0
    return folder


def sherpa(folder: Path, method: str, suffix: str) -> Callable[[np.ndarray], str]:
    sherpa_onnx = pytest.importorskip("sherpa_onnx")
    recogniser = sherpa_onnx.OfflineRecognizer.from_transducer(
        *(str(folder / f"{name}{suffix}.onnx") for name in ("encoder", "decoder", "joiner")),
        tokens=str(folder / "tokens.txt"),
        feature_dim=40,
        num_threads=1,
        decoding_method=method,
        max_active_paths=4,
    )

    def recognise(speech: np.ndarray) -> str:
        stream = recogniser.create_stream()
        stream.accept_waveform(16000, speech)
        recogniser.decode_stream(stream)
        return " ".join(str(stream.result.text).split())

    return recognise


@pytest.mark.parametrize("method", ["greedy_search", "modified_beam_search"])
def test_sherpa_hears_what_we_hear(spoken: Spoken, exported: Path, method: str) -> None:
    from espnet_plugin.inference.speech2text import Speech2Text

    search = {"search": "greedy"} if method == "greedy_search" else {"beam_size": 4}
    ours = Speech2Text.from_pretrained(str(MODEL), **search)
    here = [" ".join(ours(speech)[0][0].split()) for speech, _ in spoken]
    words = sum(len(text.split()) for _, text in spoken)

    def wrong(heard: list[str]) -> int:
        pairs = zip(heard, spoken, strict=True)
        return sum(levenshtein(text.split(), found.split()) for found, (_, text) in pairs)

    assert wrong(here) <= WORDS_WRONG * words
    for suffix, may_differ in (("", 1), (".int8", 3)):
        there = [sherpa(exported, method, suffix)(speech) for speech, _ in spoken]
        differ = [pair for pair in zip(here, there, strict=True) if pair[0] != pair[1]]
        assert len(differ) <= may_differ, differ
        assert wrong(there) <= WORDS_WRONG * words
