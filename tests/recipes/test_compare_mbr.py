"""compare_mbr.sh: every arm starts from the same full_sum and is decoded with and without LM."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.recipes.stub_recipe import TEMPLATE

STUB = """#!/usr/bin/env bash
for word in "$@"; do printf '%s\\t' "${word}"; done >> calls.tsv
echo >> calls.tsv
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    shutil.copy(TEMPLATE / "compare_mbr.sh", tmp_path)
    (tmp_path / "run.sh").write_text(STUB)
    (tmp_path / "run.sh").chmod(0o755)
    return tmp_path


def compare(recipe: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [str(recipe / "compare_mbr.sh"), *arguments]
    return subprocess.run(command, cwd="/", capture_output=True, text=True)


def options(call: str) -> dict[str, str]:
    words = call.split("\t")[:-1]
    return dict(zip(words[::2], words[1::2], strict=True))


def test_arms_start_from_one_full_sum_and_differ_in_their_lists_only(recipe: Path) -> None:
    (recipe / "exp/base/full_sum").mkdir(parents=True)
    (recipe / "exp/base/full_sum/config.yaml").touch()
    done = compare(recipe, "exp/base", "--nj", "1")
    assert done.returncode == 0, done.stderr
    calls = [options(line) for line in (recipe / "calls.tsv").read_text().splitlines()]
    assert all(call["--nj"] == "1" for call in calls)
    trained = [call for call in calls if call["--stop_stage"] == "6"]
    assert [call["--asr_tag"] for call in trained] == ["base_mbr_lists", "base_mbr_wide"]
    changed = {"--asr_tag", "--asr_config"}
    assert trained[0].keys() == trained[1].keys()
    assert {key for key in trained[0] if trained[0][key] != trained[1][key]} == changed
    assert {call["--init_from"] for call in trained} == {"exp/base/full_sum"}
    decoded = [call for call in calls if call not in trained]
    assert [(c["--asr_tag"], c["--decode_stages"], c["--inference_tag"]) for c in decoded] == [
        (tag, stage, name)
        for tag, stage in (
            ("base", "full_sum"),
            ("base_mbr_lists", "mbr"),
            ("base_mbr_wide", "mbr"),
        )
        for name in ("beam", "beam_lm_ilm")
    ]
    # Scales are chosen anew for each arm, and the plain decoding has no language model.
    assert all(("--tune_scales" in c) == (c["--inference_tag"] != "beam") for c in decoded)
    assert all(("--use_lm" in c) == (c["--inference_tag"] != "beam") for c in decoded)


def test_without_full_sum_nothing_runs(recipe: Path) -> None:
    done = compare(recipe, "exp/base")
    assert done.returncode == 2 and "exp/base: no full_sum stage there" in done.stderr
    assert not (recipe / "calls.tsv").exists()
    assert compare(recipe).returncode != 0
