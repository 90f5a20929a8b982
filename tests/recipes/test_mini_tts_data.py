"""The synthetic corpus: same bytes for the same seed, unseen test voices, real audio."""

from __future__ import annotations

import importlib
import os
import random
import signal
import subprocess
import sys
import time
import wave
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import yaml

REPO = Path(__file__).resolve().parents[2]
RECIPE = REPO / "egs2" / "mini_tts" / "asr1"
COUNTS = ("--num_train", "12", "--num_dev", "3", "--num_test", "4")


@pytest.fixture
def config() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((RECIPE / "conf" / "corpus.yaml").read_text())
    return loaded


@pytest.fixture
def local(monkeypatch: pytest.MonkeyPatch):
    """Imports a module of the recipe's local/ by name."""
    monkeypatch.syspath_prepend(str(RECIPE / "local"))

    def load(name: str) -> ModuleType:
        return importlib.import_module(name)

    return load


def command(output: Path, *options: str) -> list[str]:
    return [sys.executable, "local/data.py", "--output", str(output), *COUNTS, *options]


def environment() -> dict[str, str]:
    return {
        **os.environ, "PYTHONPATH": str(REPO), "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"
    }  # fmt: skip


def make(output: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(output, *options),
        cwd=RECIPE,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )


def contents(directory: Path) -> dict[str, bytes]:
    """Every file's bytes; the paths inside wav.scp are made relative to the directory."""
    return {
        str(file.relative_to(directory)): file.read_bytes().replace(bytes(directory), b".")
        for file in directory.rglob("*")
        if file.is_file()
    }


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("espeakng_loader")
    output = tmp_path_factory.mktemp("mini_tts") / "data"
    done = make(output, "--nj", "2")
    assert done.returncode == 0, done.stderr
    assert "19/19 files" in done.stderr
    return output


def test_same_seed_same_bytes_whatever_the_number_of_processes(
    corpus: Path, tmp_path: Path
) -> None:
    assert make(tmp_path / "again", "--nj", "1").returncode == 0
    assert contents(tmp_path / "again") == contents(corpus)


def test_another_seed_gives_other_speech(corpus: Path, tmp_path: Path) -> None:
    assert make(tmp_path / "other", "--seed", "2").returncode == 0
    assert (tmp_path / "other/test/text").read_text() != (corpus / "test/text").read_text()


def test_audio_is_what_wav_scp_says(corpus: Path) -> None:
    for name, count in (("train", 12), ("dev", 3), ("test", 4)):
        rows = [line.split() for line in (corpus / name / "wav.scp").read_text().splitlines()]
        assert len(rows) == count
        assert rows == sorted(rows)
        for utterance, path in rows:
            assert Path(path).stem == utterance
            with wave.open(path) as file:
                assert (file.getframerate(), file.getnchannels()) == (16000, 1)
                samples = np.frombuffer(file.readframes(file.getnframes()), np.int16)
            assert 0.3 < len(samples) / 16000 < 6.0
            assert 0.09 < np.abs(samples).max() / 32767 < 0.91


def test_a_killed_run_continues_to_the_same_corpus(corpus: Path, tmp_path: Path) -> None:
    output = tmp_path / "killed"
    process = subprocess.Popen(
        command(output, "--nj", "1"),
        cwd=RECIPE,
        env=environment(),
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    deadline = time.monotonic() + 60
    while len(list(output.rglob("*.wav"))) < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    finished = {path: path.stat().st_mtime_ns for path in output.rglob("*.wav")}
    assert 3 <= len(finished) < 19
    assert make(output).returncode == 0
    assert all(path.stat().st_mtime_ns == made for path, made in finished.items())
    made = {name: data for name, data in contents(output).items() if "partial" not in name}
    assert made == contents(corpus)


def test_more_utterances_add_to_what_is_there(corpus: Path, tmp_path: Path) -> None:
    assert make(tmp_path / "grown", "--num_test", "1").returncode == 0
    (kept,) = (tmp_path / "grown/audio/test").iterdir()
    before = kept.stat().st_mtime_ns
    assert make(tmp_path / "grown").returncode == 0
    assert kept.stat().st_mtime_ns == before
    assert contents(tmp_path / "grown") == contents(corpus)


def test_other_settings_make_the_audio_anew(tmp_path: Path) -> None:
    pytest.importorskip("espeakng_loader")
    assert make(tmp_path / "data").returncode == 0
    done = make(tmp_path / "data", "--sample_rate", "8000")
    assert done.returncode == 0
    assert "made with other settings" in done.stderr
    for path in tmp_path.rglob("*.wav"):
        with wave.open(str(path)) as file:
            assert file.getframerate() == 8000


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pitch": [70, 30]}, r"pitch: \[70, 30\] is not a range"),
        ({"peak": [0.5, 1.5]}, r"peak: \[0.5, 1.5\] must lie in \(0, 1\]"),
        ({"variants": {"train": ["m1"], "dev": ["m2"], "test": ["m1"]}}, "in both train and test"),
        ({"num_utterances": {"train": 1, "dev": 1, "test": 0}}, "test: needs at least one"),
    ],
)
def test_bad_settings_are_named(
    config: dict[str, Any], local, change: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        local("plan").check({**config, **change})


def test_missing_settings_are_listed(config: dict[str, Any], local) -> None:
    del config["snr_db"], config["accents"]
    with pytest.raises(ValueError, match="lacks: accents, snr_db"):
        local("plan").check(config)


def test_failed_synthesis_ends_with_a_message(config: dict[str, Any], tmp_path: Path) -> None:
    pytest.importorskip("espeakng_loader")
    config["accents"] = ["en-XX"]
    (tmp_path / "corpus.yaml").write_text(yaml.safe_dump(config))
    done = make(tmp_path / "data", "--config", str(tmp_path / "corpus.yaml"))
    assert done.returncode == 1
    assert "eSpeak NG has no voice 'en-XX+" in done.stderr
    assert "19 of 19 files could not be made" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_folder_of_somebody_else_is_left_alone(tmp_path: Path) -> None:
    pytest.importorskip("espeakng_loader")
    (tmp_path / "audio").mkdir()
    (tmp_path / "audio" / "thesis.wav").touch()
    done = make(tmp_path)
    assert done.returncode == 1
    assert "not made by this program" in done.stderr
    assert (tmp_path / "audio" / "thesis.wav").exists()


def test_no_voice_is_in_two_sets(config: dict[str, Any], local) -> None:
    plan = local("plan")
    plan.check(config)
    speakers = {
        name: {u.speaker.split("_")[0] for u in plan.plan(config, name)} for name in plan.SETS
    }
    assert not speakers["train"] & speakers["test"]
    assert not speakers["train"] & speakers["dev"]
    assert not speakers["dev"] & speakers["test"]


def test_an_utterance_does_not_depend_on_how_many_there_are(config: dict[str, Any], local) -> None:
    plan = local("plan")
    many = plan.plan({**config, "num_utterances": {"train": 20}}, "train")
    few = plan.plan({**config, "num_utterances": {"train": 7}}, "train")
    assert many[:7] == few
    assert len({u.name for u in many}) == 20


def test_every_word_is_in_the_training_text(config: dict[str, Any], local) -> None:
    plan = local("plan")
    words = {name: {w for u in plan.plan(config, name) for w in u.words} for name in plan.SETS}
    assert words["dev"] | words["test"] <= words["train"]
    assert 20 <= len(words["train"]) <= 30


def test_grammar_keeps_to_its_patterns(local) -> None:
    grammar = local("sentences").Grammar({"x": ["a", "b"]}, [(1, "go <x>{2,4}"), (1, "<x> stop")])
    rng = random.Random(0)
    drawn = [grammar.draw(rng) for _ in range(300)]
    assert {len(words) for words in drawn if words[0] == "go"} == {3, 4, 5}
    assert {tuple(words) for words in drawn if words[-1] == "stop"} == {
        ("a", "stop"),
        ("b", "stop"),
    }


@pytest.mark.parametrize("item", ["<x>{3,2}", "<x>{0,1}", "<y>", "x2", "<x"])
def test_grammar_refuses_malformed_items(local, item: str) -> None:
    with pytest.raises(ValueError, match="pattern item"):
        local("sentences").Grammar({"x": ["a"]}, [(1, f"go {item}")])


def test_recording_has_the_asked_length_level_and_noise(local) -> None:
    acoustics = local("acoustics")
    tone = np.sin(2 * np.pi * 1000 * np.arange(22050) / 22050)
    quiet = acoustics.Recording(0.1, 0.2, 300.0, 0.0, 0.5, 7)
    clean = acoustics.record(tone, 22050, 16000, quiet)
    assert len(clean) == 1600 + 16000 + 3200
    assert np.abs(clean).max() == round(0.5 * 32767)
    # Still 1000 Hz: the resampler kept the pitch.
    assert np.abs(np.fft.rfft(clean[1600:17600])).argmax() == 1000
    noisy = acoustics.record(tone, 22050, 16000, replace(quiet, snr_db=10.0)).astype(float)
    noise = noisy[:1600].var()  # the leading silence holds noise alone
    speech = noisy[1600:17600].var() - noise
    assert 10 * np.log10(speech / noise) == pytest.approx(10.0, abs=0.5)


def test_what_the_new_rate_cannot_hold_is_filtered_out(local) -> None:
    acoustics = local("acoustics")
    time_axis = np.arange(22050) / 22050
    both = np.sin(2 * np.pi * 1000 * time_axis) + np.sin(2 * np.pi * 10000 * time_axis)
    made = acoustics.record(both, 22050, 16000, acoustics.Recording(0, 0, 300.0, 0, 0.9, 1))
    spectrum = np.abs(np.fft.rfft(made))
    assert spectrum[6000] < spectrum[1000] / 300  # where 10 kHz would fold to


@pytest.mark.parametrize("slope", [0.0, 1.0, 2.0])
def test_noise_falls_with_the_asked_slope(local, slope: float) -> None:
    rng = np.random.default_rng(0)
    noise = local("acoustics").coloured_noise(1 << 16, slope, rng)
    assert np.mean(noise**2) == pytest.approx(1.0)
    power = np.abs(np.fft.rfft(noise)) ** 2
    low, high = power[100:200].mean(), power[1600:3200].mean()  # four octaves apart
    assert np.log2(low / high) / 4 == pytest.approx(slope, abs=0.1)


def test_espeak_tells_when_words_are_spoken(local: Callable[[str], ModuleType]) -> None:
    pytest.importorskip("espeakng_loader")
    espeak = local("espeak")
    voice = espeak.Espeak()
    sound = voice.say("call eight, seven one", espeak.Delivery("en-us", 150, 50, 50))
    times = voice.word_times()
    call, eight, seven, one = times
    assert call[0] > 0 and one[1] < len(sound) / voice.sample_rate
    assert call[1] == eight[0] and seven[1] == one[0]  # nothing between
    assert 0.1 < seven[0] - eight[1] < 1.0  # the comma
    loudness = [
        float(np.abs(sound[round(a * voice.sample_rate) : round(b * voice.sample_rate)]).mean())
        for a, b in (*times, (0.0, call[0]), (eight[1] + 0.03, seven[0] - 0.03))
    ]
    assert max(loudness[4:]) < 0.1 * min(loudness[:4])
    voice.say("no", espeak.Delivery("en-us", 150, 50, 50))
    assert len(voice.word_times()) == 1
