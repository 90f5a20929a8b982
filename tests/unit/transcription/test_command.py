"""The command `transcribe` around a stand-in for the model: options, outputs, exit status."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from espnet_plugin.bin import transcribe
from espnet_plugin.transcription.transcriber import Cutting, Transcriber
from espnet_plugin.transcription.words import Word

RATE = 1000


@pytest.fixture(autouse=True)
def model(monkeypatch: pytest.MonkeyPatch) -> dict:
    """A recogniser that hears one word, a second's loudness; notes what it was made with."""
    made: dict = {}

    def hear(pieces: list[np.ndarray]) -> list[list[Word]]:
        return [[Word(f"W{round(100 * p.max())}", 0.0, 0.5, 0.5)] for p in pieces]

    def make(args, search, progress) -> Transcriber:
        made.update(search=search, args=args)
        cutting = Cutting(args.segmentation, args.longest, args.overlap, args.pause)
        return Transcriber(hear, RATE, args.model, cutting, channels=args.channels,
                           batch_size=args.batch_size, progress=progress)  # fmt: skip

    monkeypatch.setattr(transcribe, "make_transcriber", make)
    return made


@pytest.fixture
def audio(tmp_path: Path) -> Path:
    folder = tmp_path / "in"
    (folder / "sub").mkdir(parents=True)
    for name, level in (("a.wav", 0.1), ("sub/b.flac", 0.2)):
        soundfile.write(folder / name, np.full(RATE, level, "f4"), RATE)
    return folder


def run(*options: object) -> int:
    segmentation = ["--segmentation", "none"]
    return transcribe.main(["--model", "m.zip", *segmentation, *map(str, options)])


def test_text_of_one_file_and_of_several_on_stdout(
    audio: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(audio / "a.wav") == 0
    assert capsys.readouterr().out == "W10\n"
    assert run(audio) == 0
    assert capsys.readouterr().out == f"{audio}/a.wav\tW10\n{audio}/sub/b.flac\tW20\n"


def test_all_formats_into_a_folder_that_mirrors_the_input(audio: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert run(audio, "--output_dir", out, "--format", "txt,json,srt,vtt,ctm") == 0
    names = sorted(p.relative_to(out).as_posix() for p in out.rglob("*") if p.is_file())
    endings = ("ctm", "json", "srt", "txt", "vtt")
    assert names == sorted([*(f"a.{e}" for e in endings), *(f"sub/b.{e}" for e in endings)])
    assert json.loads((out / "sub/b.json").read_text())["tracks"][0]["segments"][0]["text"] == "W20"
    assert (out / "a.ctm").read_text() == "a 1 0.000 0.500 W10 0.5000\n"


def test_resume_does_only_what_is_missing(
    audio: Path, tmp_path: Path, model: dict, caplog: pytest.LogCaptureFixture
) -> None:
    out = tmp_path / "out"
    assert run(audio / "a.wav", "--output_dir", out) == 0
    (out / "a.txt").write_text("kept\n")
    assert run(audio, "--output_dir", out, "--resume") == 0
    assert (out / "a.txt").read_text() == "kept\n" and (out / "sub/b.txt").read_text() == "W20\n"
    model.clear()
    assert run(audio, "--output_dir", out, "--resume") == 0
    assert not model, "nothing to do: no model is loaded"
    assert "2 of 2 files are done already" in caplog.text


def test_one_broken_file_shows_in_the_exit_status(
    audio: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (audio / "c.wav").write_text("no audio")
    out = tmp_path / "out"
    assert run(audio, "--output_dir", out) == 1
    assert (out / "a.txt").exists() and (out / "sub/b.txt").exists()
    assert not (out / "c.txt").exists()
    assert "c.wav: libsndfile cannot read it" in caplog.text and "1 failed" in caplog.text


def test_options_of_the_search_win_over_the_configuration(
    audio: Path, tmp_path: Path, model: dict
) -> None:
    config = tmp_path / "decode.yaml"
    config.write_text("beam_size: 4\nilm_scale: 0.1\nbatch_size: 3\n")
    assert run(audio / "a.wav", "--inference_config", config, "--beam_size", 2) == 0
    assert model["search"] == {"beam_size": 2, "ilm_scale": 0.1}
    assert run(audio / "a.wav") == 0
    assert model["search"] == {}, "what the model was packed with counts"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--resume"], "--resume needs --output_dir"),
        (["--format", "txt,srt"], "need --output_dir"),
        (["--longest", "3"], "more than twice the overlap"),
        (["--batch_size", "0"], "--batch_size must be at least 1"),
        (["--inference_config", "absent.yaml"], "absent.yaml"),
    ],
)
def test_options_that_cannot_work(
    audio: Path, options: list[str], message: str, caplog: pytest.LogCaptureFixture
) -> None:
    command = ["--model", "m.zip", str(audio / "a.wav"), *options]
    assert transcribe.main(command) == 2
    assert message in caplog.text


def test_options_before_the_files_do_not_swallow_them(audio: Path, model: dict) -> None:
    assert run("--lm", "word:a.arpa:0.5", "--lm", "ngram:b.arpa:1", audio / "a.wav") == 0
    assert model["search"] == {"lm": ["word:a.arpa:0.5", "ngram:b.arpa:1"]}
    assert model["args"].audio == [audio / "a.wav"]
    with pytest.raises(SystemExit):
        run(audio / "a.wav", "--format", "txt,doc")


def test_captions_of_several_files_have_no_place_on_stdout(
    audio: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert run(audio, "--format", "srt") == 2
    assert "captions of several files" in caplog.text


def test_no_gpu(audio: Path, caplog: pytest.LogCaptureFixture) -> None:
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("there is one here")
    assert run(audio / "a.wav", "--device", "cuda") == 2
    assert "no GPU is available here" in caplog.text
