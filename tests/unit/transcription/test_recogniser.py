"""The packed demo model as the recogniser of `transcribe`: words, times, confidences."""

from __future__ import annotations

import itertools
import types
from pathlib import Path

import numpy as np
import pytest
import soundfile

from espnet_plugin.bin import decode as decode_command
from espnet_plugin.inference.speech2text import Speech2Text
from espnet_plugin.inference.word_recogniser import WordRecogniser
from espnet_plugin.packages.loading import pretrained_arguments
from espnet_plugin.search import Hypothesis
from espnet_plugin.transcription.formats import as_ctm
from espnet_plugin.transcription.transcriber import Cutting, Transcriber
from espnet_plugin.transcription.words import Word

FIXTURES = Path(__file__).resolve().parents[2] / "fixtures"
MODEL, AUDIO = FIXTURES / "mini_tts.zip", FIXTURES / "call.flac"
FIRST, SECOND = ["CALL", "EIGHT", "NINE", "ONE", "SEVEN"], ["TURN", "RADIO", "OFF"]
PAUSE = (2.1, 3.75)  # seconds, within the silence between the sentences


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def recognise(cache: Path) -> WordRecogniser:
    return WordRecogniser(Speech2Text(**pretrained_arguments(MODEL, cache), nbest=8))


@pytest.fixture(scope="module")
def speech() -> np.ndarray:
    return soundfile.read(AUDIO, dtype="float32")[0]


def texts(words: list[Word]) -> list[str]:
    return [word.text for word in words]


def test_words_come_when_they_are_spoken(recognise: WordRecogniser) -> None:
    assert recognise.rate == 16000
    ((_, found),) = Transcriber(recognise, 16000, "demo", Cutting("vad", 10.0)).run([AUDIO])
    assert found is not None
    (track,) = found.tracks
    assert [texts(list(s.words)) for s in track.segments] == [FIRST, SECOND]
    one, two = track.segments
    assert one.words[-1].end < PAUSE[0] and two.words[0].start > PAUSE[1] - 0.2
    for word, after in zip(track.words, track.words[1:], strict=False):
        assert word.start < word.end <= after.start + 0.05 and after.end <= track.seconds
    assert all(0.5 < word.confidence <= 1.0 for word in track.words)


def test_a_batch_gives_what_single_pieces_give(
    recognise: WordRecogniser, speech: np.ndarray
) -> None:
    pieces = [speech[: int(PAUSE[0] * 16000)], speech[int(PAUSE[1] * 16000) - 3000 :]]
    both = recognise(pieces)
    assert [texts(words) for words in both] == [FIRST, SECOND]
    for piece, together in zip(pieces, both, strict=True):
        (alone,) = recognise([piece])
        for a, b in zip(together, alone, strict=True):
            assert a.text == b.text and a.start == b.start and a.end == b.end
            assert a.confidence == pytest.approx(b.confidence, abs=1e-3)


def test_silence_has_no_words_and_the_shortest_pieces_do_no_harm(
    recognise: WordRecogniser,
) -> None:
    quiet = 1e-4 * np.random.default_rng(1).standard_normal(16000).astype("f4")
    words = recognise([quiet, quiet[:8000]])
    assert all(len(found) <= 1 for found in words)


def test_a_hypothesis_of_spaces_alone_has_no_words(
    recognise: WordRecogniser, speech: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model that has learned little says so."""
    loaded = recognise._loaded
    spaces = Hypothesis((loaded.asr_model.token_list.index("<space>"),), -1.0, -1.0)
    monkeypatch.setattr(loaded, "search", lambda frames, lengths: [[spaces]])
    assert recognise([speech[:16000]]) == [[]]


def test_ctm_is_that_of_decode(
    recognise: WordRecogniser, cache: Path, speech: np.ndarray, tmp_path: Path
) -> None:
    """The same piece through the job that decodes data sets, with the same beam."""
    wav = tmp_path / "utt.wav"
    soundfile.write(wav, speech[: int(PAUSE[0] * 16000)], 16000)
    (tmp_path / "wav.scp").write_text(f"utt {wav}\n")
    (tmp_path / "keys").write_text("utt\n")
    given = pretrained_arguments(MODEL, cache)
    decode_command.main(
        [
            "--asr_train_config", given["asr_train_config"],
            "--asr_model_file", given["asr_model_file"],
            "--output_dir", str(tmp_path / "out"), "--key_file", str(tmp_path / "keys"),
            "--data_path_and_name_and_type", f"{tmp_path / 'wav.scp'},speech,sound",
            "--num_workers", "0",
        ]
    )  # fmt: skip
    ((_, found),) = Transcriber(recognise, 16000, "demo", Cutting("none")).run([wav])
    assert found is not None
    ours = [line.split() for line in as_ctm(found).splitlines()]
    jobs = [line.split() for line in (tmp_path / "out/ctm").read_text().splitlines()]
    assert len(ours) == len(jobs) == len(FIRST)
    for a, b in zip(ours, jobs, strict=True):
        assert a[:2] + a[4:5] == b[:2] + b[4:5]
        assert [float(x) for x in a[2:4]] == pytest.approx([float(x) for x in b[2:4]], abs=0.0015)
        assert float(a[5]) == pytest.approx(float(b[5]), abs=1e-3)


def test_a_model_of_features_explains_that_it_takes_no_audio() -> None:
    loaded = types.SimpleNamespace(asr_train_args=types.SimpleNamespace(input_size=39))
    with pytest.raises(ValueError, match="extracted features of 39 dimensions, so it takes no"):
        WordRecogniser(loaded)


def test_without_word_times_words_are_spread_and_that_is_told_once(
    cache: Path, speech: np.ndarray, caplog: pytest.LogCaptureFixture
) -> None:
    given = pretrained_arguments(MODEL, cache)
    recognise = WordRecogniser(Speech2Text(**given, search="encoder"))
    first, again = recognise([speech[:32000], speech[:32000]])
    assert first == again and first
    assert all(word.confidence is None for word in first)
    gaps = np.diff([word.start for word in first])
    assert np.allclose(gaps, 2.0 / len(first)) and first[-1].end == pytest.approx(2.0)
    assert caplog.text.count("words are spread evenly") == 1


def test_words_of_a_package_with_boundaries_follow_one_another(
    cache: Path, speech: np.ndarray
) -> None:
    """eSpeak makes no pauses within the sentence; the labels' times have gaps."""
    loaded = Speech2Text(**pretrained_arguments(FIXTURES / "mini_tts_fbank.zip", cache))
    piece = speech[: int(PAUSE[0] * 16000)]

    def largest_gap() -> float:
        (words,) = WordRecogniser(loaded)([piece])
        assert texts(words) == FIRST
        return max(b.start - a.end for a, b in itertools.pairwise(words))

    assert largest_gap() < 0.065
    loaded.boundaries = None
    assert largest_gap() > 0.1
