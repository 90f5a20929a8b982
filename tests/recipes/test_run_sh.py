"""The recipes' run.sh with a stand-in for progressive.sh: options in every form, and who wins."""

from __future__ import annotations

import os
import shlex
import subprocess
from pathlib import Path

import pytest

from espnet_plugin.stages.config import load_pipeline_config

RECIPES = Path(__file__).resolve().parents[2] / "egs2"


def asked(folder: Path, corpus: str, *given: str, db: str | None = None) -> dict[str, str]:
    """What progressive.sh is called with; the last of several values counts, as there."""
    source = RECIPES / corpus / "asr1"
    (folder / "db.sh").write_text((source / "db.sh").read_text() if db is None else db)
    (folder / "run.sh").write_bytes((source / "run.sh").read_bytes())
    script = '#!/bin/bash\nprintf "%s\\n" "$@" >arguments; env >environment\n'
    (folder / "progressive.sh").write_text(script)
    (folder / "progressive.sh").chmod(0o755)
    environment = {**os.environ, "AN4": "", "LIBRISPEECH": ""}
    subprocess.run(["bash", str(folder / "run.sh"), *given], env=environment, check=True)
    arguments = (folder / "arguments").read_text().splitlines()
    return dict(zip(arguments[::2], arguments[1::2], strict=True))


@pytest.mark.parametrize("corpus", ["librispeech", "swbd"])
def test_an_equals_sign_is_as_good_as_a_space(tmp_path: Path, corpus: str) -> None:
    spaced = asked(tmp_path, corpus, "--token_type", "bpe", "--nbpe", "500")
    assert asked(tmp_path, corpus, "--token_type=bpe", "--nbpe=500") == spaced
    assert spaced["--token_type"] == "bpe" and "--lexicon" not in spaced


def test_an4_keeps_its_options_beside_the_users(tmp_path: Path) -> None:
    place = tmp_path / "a b"
    place.mkdir()
    for given in (
        ["--an4_root", str(place), "--local_data_opts", "--allow_subset"],
        [f"--an4_root={place}", "--local_data_opts=--allow_subset"],
    ):
        options = shlex.split(asked(tmp_path, "an4", *given)["--local_data_opts"])
        assert options == ["--mel_channels", "26", "--an4_root", str(place), "--allow_subset"]


def test_switchboards_places_on_the_command_line_win_over_db_sh(tmp_path: Path) -> None:
    db = "export SWBD=/edited/in/db EVAL2000_AUDIO= HUB5E01= RT03=/there\n"
    options = asked(tmp_path, "swbd", "--swbd", "/given", "--hub5e01=/audio", db=db)
    environment = (tmp_path / "environment").read_text().splitlines()
    assert {"SWBD=/given", "HUB5E01=/audio", "RT03=/there"} <= set(environment)
    assert options["--test_sets"].split() == ["hub5e01", "rt03"]
    assert asked(tmp_path, "swbd", db=db)["--test_sets"].split() == ["rt03"]


def test_switchboards_nbest_lists_use_the_ngram_that_is_made(tmp_path: Path) -> None:
    options = asked(tmp_path, "swbd", "--expdir", "/elsewhere", "--ngram_order", "3")
    config = load_pipeline_config(RECIPES / "swbd/asr1" / options["--asr_config"])
    made = options["--word_arpa"].removeprefix("train:")
    assert config.nbest["lm"] == [f"word:{made}:0.4"]
