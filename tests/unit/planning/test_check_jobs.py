"""check-config looks at the jobs between stages, too: day ten should not bring their errors."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from espnet_plugin.jobs import check_config


def check(folder: Path, *arguments: str, program: str = "nbest") -> int:
    always = ["--train_config", "c", "--model_file", "m", "--output_dir", "o", "--key_file", "k"]
    always += ["--data_path_and_name_and_type", "wav.scp,speech,sound"]
    spec = {f"job:{program}": [program, *always, *arguments]}
    (folder / "check.json").write_text(json.dumps(spec))
    return check_config.main([str(folder / "check.json")])


def test_jobs_of_sound_options_pass(tmp_path: Path) -> None:
    (tmp_path / "lexicon.txt").write_text("A ə\n")
    (tmp_path / "lm.arpa").write_text("\\data\\\n")
    lexicon = ["--search", "lexicon", "--lexicon", str(tmp_path / "lexicon.txt")]
    assert check(tmp_path, *lexicon, "--lm", f"word:{tmp_path / 'lm.arpa'}:0.4") == 0
    assert check(tmp_path, "--prior_scale", "0.3", program="align") == 0


@pytest.mark.parametrize(
    ("arguments", "program", "message"),
    [
        (["--lm_scale", "0.4"], "nbest", "nbest does not accept its options"),
        (["--sorce", "encoder"], "align", "align does not accept its options"),
        (["--search", "lexicon"], "nbest", "--search lexicon needs --lexicon"),
        (["--search", "lexicon", "--lexicon", "gone.txt"], "nbest", "gone.txt: no such file"),
        (["--lm", "ngram:gone.arpa:0.3"], "nbest", "gone.arpa: no such file"),
        (["--lm", "4gram.arpa"], "nbest", "is not of the form"),
    ],
)
def test_wrong_options_and_missing_files_are_named(
    arguments: list[str],
    program: str,
    message: str,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    assert check(tmp_path, *arguments, program=program) == 2
    assert message in caplog.text and f"job:{program}" in caplog.text
