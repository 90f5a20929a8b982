"""The command `evaluate`: which folders it refuses, and which search it asks for."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from espnet_plugin.bin import evaluate
from espnet_plugin.packages.loading import Pretrained
from espnet_plugin.pipeline.launch.jobs import Job


def test_a_trainings_folder_is_left_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    exp = tmp_path / "exp/tag"
    exp.mkdir(parents=True)
    (exp / "pipeline.json").write_text("{}")
    (exp / "RESULTS.md").write_text("the training's")
    given = ["--model", str(exp / "tag.zip"), "--data", str(tmp_path), "--exp", str(exp)]
    with caplog.at_level(logging.ERROR):
        assert evaluate.main(given) == 2
    assert f"--exp {exp}_evaluated" in caplog.text
    assert sorted(path.name for path in exp.iterdir()) == ["RESULTS.md", "pipeline.json"]
    assert (exp / "RESULTS.md").read_text() == "the training's"


def test_a_given_search_replaces_the_packages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("model.pth", "config.yaml", "own.yaml", "wav.scp", "lm.arpa", "words.npz"):
        (tmp_path / name).write_text("u u.wav\n" if name == "wav.scp" else "")
    (tmp_path / "own.yaml").write_text(f"nbest: 2\nlm: ['word:{tmp_path}/lm.arpa:0.5']\n")
    (tmp_path / "package.yaml").write_text("nbest: 1\n")
    options = {"nbest": 1, "boundary_file": str(tmp_path / "words.npz")}
    model = Pretrained(
        tmp_path / "model.pth", tmp_path / "config.yaml", options, tmp_path / "package.yaml"
    )
    monkeypatch.setattr(evaluate, "find_pretrained", lambda source: model)
    asked: list[Job] = []

    def stop(jobs: list[Job], *rest: object) -> None:
        asked.extend(jobs)
        raise ValueError("decoding begins")

    monkeypatch.setattr(evaluate, "run_jobs", stop)
    given = ["--model", "m.zip", "--data", str(tmp_path), "--exp"]
    assert evaluate.main([*given, str(tmp_path / "a")]) == 2
    own = ["--inference_config", str(tmp_path / "own.yaml")]
    assert evaluate.main([*given, str(tmp_path / "b"), *own]) == 2
    package, mine = asked
    assert str(tmp_path / "package.yaml") in package.arguments("keys", "out")
    assert str(tmp_path / "own.yaml") in mine.arguments("keys", "out")
    for job in asked:  # what times its words is part of the model
        words = job.arguments("keys", "out")
        assert words[words.index("--boundary_file") + 1] == options["boundary_file"]
    lists = [name for name in mine.outputs if name.startswith("2best")]
    assert lists and not any(name.startswith("2best") for name in package.outputs)
    # options of the command line go before both, and are part of what a folder is made from
    more = ["--inference_args", "--nbest 3 --beam_size=5"]
    assert evaluate.main([*given, str(tmp_path / "c"), *more]) == 2
    assert asked[-1].arguments("keys", "out")[-3:] == ["--nbest", "3", "--beam_size=5"]
    assert any(name.startswith("3best") for name in asked[-1].outputs)
    assert evaluate.main([*given, str(tmp_path / "a"), *more]) == 2
    assert "made with another model" in caplog.text
    caplog.clear()
    # results of another language model of the same name do not mix
    (tmp_path / "lm.arpa").write_text("another")
    with caplog.at_level(logging.ERROR):
        assert evaluate.main([*given, str(tmp_path / "b"), *own]) == 2
    assert "made with another model" in caplog.text
