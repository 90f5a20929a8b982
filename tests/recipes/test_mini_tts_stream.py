"""The demo's endless producer: the same bytes wherever it starts, new sentences in known voices."""

from __future__ import annotations

import io
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from espnet_plugin.data.stream.records import Record, encode, read_record
from tests.recipes.test_mini_tts_data import RECIPE, config, environment, local

__all__ = ["config", "local"]  # fixtures


def speak(*options: str) -> list[Record]:
    command = [sys.executable, "local/stream.py", *options]
    done = subprocess.run(
        command, cwd=RECIPE, env=environment(), capture_output=True, check=False
    )  # fmt: skip
    assert done.returncode == 0, done.stderr.decode()
    stream, found = io.BytesIO(done.stdout), []
    while (record := read_record(stream, len(found))) is not None:
        found.append(record)
    return found


@pytest.fixture(scope="module")
def spoken() -> list[Record]:
    pytest.importorskip("espeakng_loader")
    return speak("--count", "40")


def test_the_same_bytes_wherever_it_starts_and_however_many_share_the_work(
    spoken: list[Record],
) -> None:
    assert [record.number for record in spoken] == list(range(40))
    for skip, step in ((13, 1), (16, 2), (31, 3)):
        again = speak("--skip", str(skip), "--step", str(step), "--count", "3")
        wanted = spoken[skip::step][:3]
        assert [encode(record) for record in again] == [encode(record) for record in wanted]


def test_sentences_of_the_grammar_in_training_voices(
    spoken: list[Record], config: dict[str, Any], local: Any
) -> None:
    words = {str(word).upper() for row in config["classes"].values() for word in row}
    words |= {"CALL", "GO", "TURN", "PLAY"}
    voices = {record.name.split("_")[0] for record in spoken}
    assert voices <= set(config["variants"]["train"])
    assert len(voices) > 15
    for record in spoken:
        assert set(record.text.split()) <= words
        assert record.rate == config["sample_rate"]
        assert record.values.dtype == np.int16
        assert 0.4 < len(record.values) / record.rate < 8
        assert record.values.std() > 50
    stored = {" ".join(u.words).upper() for u in local("plan").plan(config, "train")[:40]}
    assert len({record.text for record in spoken} - stored) > 20


def test_other_seeds_are_other_sentences(spoken: list[Record]) -> None:
    others = speak("--seed", "2", "--count", "5")
    assert not {record.text for record in others} <= {record.text for record in spoken[:5]}


@pytest.mark.parametrize("samples", [1, 7, 16000, 28657, 65537])
def test_quick_lengths_are_a_little_longer(samples: int, local: Any) -> None:
    length = local("acoustics").quick_length(samples)
    assert samples <= length <= samples * 1.15
    for factor in (2, 3, 5, 7):
        while length % factor == 0:
            length //= factor
    assert length == 1


@pytest.mark.parametrize("options", [("--step", "0"), ("--skip", "-1"), ("--config", "nowhere")])
def test_what_makes_no_sense_is_refused(options: tuple[str, str]) -> None:
    command = [sys.executable, "local/stream.py", "--count", "1", *options]
    done = subprocess.run(
        command, cwd=RECIPE, env=environment(), capture_output=True, check=False
    )  # fmt: skip
    assert done.returncode == 1
    assert not done.stdout
    assert b"ERROR" in done.stderr
