"""Speed perturbation: lengths, pitch, names, resumption, refusals."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from espnet_plugin.corpora.kaldi_dir import write_data_dir
from espnet_plugin.jobs.perturb_speed import get_parser, main, perturb_speed

soundfile = pytest.importorskip("soundfile")
pytest.importorskip("soxr")

TONE = 1000.0  # Hz
FRAMES = 16000


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Two utterances of two speakers, a second of a 1000 Hz tone each."""
    tone = 0.5 * np.sin(2 * np.pi * TONE * np.arange(FRAMES) / 16000)
    names = {"ann-1": "ann", "bob-1": "bob"}
    for name in names:
        soundfile.write(tmp_path / f"{name}.flac", tone, 16000, subtype="PCM_16")
    tables = {
        "wav.scp": {name: str(tmp_path / f"{name}.flac") for name in names},
        "text": {"ann-1": "ONE", "bob-1": "TWO WORDS"},
    }
    write_data_dir(tmp_path / "org", names, tables)
    return tmp_path / "org"


def run(data: Path, *factors: str) -> bool:
    options = ["--data_dir", str(data), "--out_dir", str(data.parent / "sp"), "--factors", *factors]
    return perturb_speed(get_parser().parse_args(options))


def rows(path: Path) -> dict[str, str]:
    return dict(line.split(" ", 1) for line in path.read_text().splitlines())


def test_names_texts_and_speakers(data: Path) -> None:
    assert run(data, "0.9", "1.0", "1.1")
    out = data.parent / "sp"
    assert rows(out / "text") == {
        "ann-1": "ONE", "bob-1": "TWO WORDS",
        "sp0.9-ann-1": "ONE", "sp0.9-bob-1": "TWO WORDS",
        "sp1.1-ann-1": "ONE", "sp1.1-bob-1": "TWO WORDS",
    }  # fmt: skip
    assert rows(out / "utt2spk")["sp1.1-bob-1"] == "sp1.1-bob"
    assert rows(out / "spk2utt")["sp0.9-ann"] == "sp0.9-ann-1"
    assert rows(out / "wav.scp")["ann-1"] == str(data.parent / "ann-1.flac")


def test_tempo_and_pitch_change_together(data: Path) -> None:
    run(data, "0.8", "1.25")
    scp = rows(data.parent / "sp" / "wav.scp")
    for factor, prefix in ((0.8, "sp0.8-"), (1.25, "sp1.25-")):
        samples, rate = soundfile.read(scp[f"{prefix}ann-1"])
        assert rate == 16000 and len(samples) == round(FRAMES / factor)
        peak = np.abs(np.fft.rfft(samples * np.hanning(len(samples)))).argmax()
        assert peak * rate / len(samples) == pytest.approx(TONE * factor, abs=2)


def test_once_and_again_only_for_other_factors(data: Path) -> None:
    assert run(data, "0.9")
    made = Path(rows(data.parent / "sp" / "wav.scp")["sp0.9-ann-1"])
    before = made.stat().st_mtime_ns
    assert not run(data, "0.9")
    assert run(data, "0.9", "1.1")
    assert made.stat().st_mtime_ns == before


def test_an_interrupted_run_goes_on(data: Path) -> None:
    broken = data.parent / "bob-1.flac"
    whole = broken.read_bytes()
    broken.write_bytes(whole[:100])
    with pytest.raises(ValueError, match=r"wav\.scp: cannot read .*bob-1\.flac"):
        run(data, "0.9")
    first = next((data.parent / "sp").rglob("sp0.9-ann-1*.flac"))
    stamp = first.stat().st_mtime_ns
    broken.write_bytes(whole)
    assert run(data, "0.9")
    assert first.stat().st_mtime_ns == stamp


def test_what_a_killed_run_wrote_is_not_taken_for_the_run_before(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(data, "0.9")

    def killed(*given: Any) -> None:
        write_data_dir(*given)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("espnet_plugin.jobs.perturb_speed.write_data_dir", killed)
        with pytest.raises(KeyboardInterrupt):
            run(data, "1.0", "1.1")
    assert run(data, "0.9")
    assert list(rows(data.parent / "sp/text")) == ["sp0.9-ann-1", "sp0.9-bob-1"]


@pytest.mark.parametrize("factors", [("0.9", "0.9"), ("0",), ("-1",), ("3",)])
def test_impossible_factors(data: Path, factors: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match=r"different numbers from 0\.5 to 2"):
        run(data, *factors)


@pytest.mark.parametrize("name", ["text", "utt2spk"])
def test_recordings_without_transcript_or_speaker(data: Path, name: str) -> None:
    path = data / name
    path.write_text(path.read_text().splitlines()[0] + "\n")
    with pytest.raises(ValueError, match=rf"{name}: nothing for bob-1 of wav.scp; add"):
        run(data, "0.9", "1.0")


def test_another_rate_is_refused(data: Path, caplog: pytest.LogCaptureFixture) -> None:
    options = ["--data_dir", str(data), "--out_dir", str(data.parent / "sp"), "--factors", "0.9"]
    assert main([*options, "--fs", "8000"]) == 2
    assert "has 16000 Hz, wanted 8000" in caplog.text
