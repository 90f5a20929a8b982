"""LibriSpeech's run.sh with a stand-in for progressive.sh: what it asks for."""

from __future__ import annotations

import os
import shlex
import subprocess
from pathlib import Path

import pytest

from espnet_plugin.pipeline.plan.config import load_pipeline_config

RECIPE = Path(__file__).resolve().parents[2] / "egs2" / "librispeech" / "asr1"


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    (tmp_path / "db.sh").symlink_to(RECIPE / "db.sh")
    (tmp_path / "run.sh").write_bytes((RECIPE / "run.sh").read_bytes())
    (tmp_path / "progressive.sh").write_text('#!/bin/bash\nprintf "%s\\n" "$@" >arguments\n')
    (tmp_path / "progressive.sh").chmod(0o755)
    return tmp_path


def options(recipe: Path, *given: str, place: str = "") -> dict[str, str]:
    """What progressive.sh is called with; the last of several values counts, as there."""
    environment = {**os.environ, "LIBRISPEECH": place}
    subprocess.run(["bash", str(recipe / "run.sh"), *given], env=environment, check=True)
    arguments = [a for a in (recipe / "arguments").read_text().splitlines() if a != "--"]
    return dict(zip(arguments[::2], arguments[1::2], strict=True))


def test_the_papers_labels_and_language_model_are_the_default(recipe: Path) -> None:
    asked = options(recipe)
    assert asked["--train_set"] == "train_960" and asked["--valid_set"] == "dev"
    assert asked["--test_sets"] == "dev_clean dev_other test_clean test_other"
    assert asked["--token_type"] == "phn" and asked["--g2p"] == "g2p_en"
    assert asked["--word_arpa"] == "data/local/word_lm.arpa.gz" and asked["--use_lm"] == "true"
    assert shlex.split(asked["--local_data_opts"]) == shlex.split(
        "--train_parts 960 --word_lm 4-gram"
    )


@pytest.mark.parametrize(
    ("given", "train_set", "config"),
    [
        (["--train_parts", "100"], "train_clean_100", "train_progressive_100h"),
        (["--train_parts", "460"], "train_clean_460", "train_progressive"),
        (["--token_type", "bpe"], "train_960", "train_progressive_subwords"),
        (
            ["--token_type", "char", "--train_parts", "100"],
            "train_clean_100",
            "train_progressive_subwords_100h",
        ),
    ],
)
def test_parts_and_labels(recipe: Path, given: list[str], train_set: str, config: str) -> None:
    asked = options(recipe, *given)
    assert asked["--train_set"] == train_set
    assert asked["--asr_config"] == f"conf/{config}.yaml"
    nbest = load_pipeline_config(RECIPE / asked["--asr_config"]).nbest
    if "--token_type" in given:
        assert "--lexicon" not in asked and "--word_lm none" in asked["--local_data_opts"]
        assert nbest["search"] == "beam" and nbest["lm"] is None
    else:
        assert nbest["search"] == "lexicon" and nbest["lm"] == [f"word:{asked['--word_arpa']}:0.4"]


def test_the_corpus_may_be_anywhere_and_options_come_last(recipe: Path) -> None:
    place = recipe / "with space"
    place.mkdir()
    asked = options(
        recipe, "--librispeech", str(place), "--local_data_opts", "--nj 3", "--nbpe", "500",
        "--token_type", "bpe",
    )  # fmt: skip
    assert shlex.split(asked["--local_data_opts"])[-4:] == [
        "--librispeech", str(place), "--nj", "3",
    ]  # fmt: skip
    assert asked["--nbpe"] == "500"
    assert (
        f"--librispeech {place.parent}" in options(recipe, place=str(recipe))["--local_data_opts"]
    )


def test_other_ways_to_write_an_option_are_the_same(recipe: Path) -> None:
    place = str(recipe)
    plain = options(
        recipe, "--librispeech", place, "--train_parts", "100", "--token_type", "bpe",
        "--local_data_opts", "--nj 3",
    )  # fmt: skip
    assert plain == options(
        recipe, f"--librispeech={place}", "--train-parts=100", "--token_type=bpe",
        "--local-data-opts=--nj 3",
    )  # fmt: skip
    # values are no options, whatever they look like
    asked = options(recipe, "--mbr_args", "--optim_conf lr=1", "--viterbi_args", "--token_type=x")
    assert asked["--mbr_args"] == "--optim_conf lr=1" and asked["--token_type"] == "phn"
    assert asked["--viterbi_args"] == "--token_type=x"
