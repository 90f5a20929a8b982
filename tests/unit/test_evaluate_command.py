"""The command `evaluate`: which folders it refuses, and which search it asks for."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from espnet_plugin.bin import evaluate


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
