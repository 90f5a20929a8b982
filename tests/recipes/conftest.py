"""Fixtures of the tests of recipes."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.recipes.stub_recipe import TEMPLATE


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """A corpus of three sets with wav.scp, and a `python` that only writes down its arguments."""
    for name in ("tr", "dev", "t1", "t2"):
        (tmp_path / "data" / name).mkdir(parents=True)
        (tmp_path / "data" / name / "wav.scp").write_text("u u.wav\n")
        for folder in ("dump/raw/org", "dump/extracted/org"):
            (tmp_path / folder / name).mkdir(parents=True)
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf/train_progressive.yaml").write_text("train_stages: {}\n")
    shutil.copy(TEMPLATE / "progressive.sh", tmp_path)
    stub = tmp_path / "python"
    stub.write_text(
        '#!/bin/bash\nprintf "%s\\n" "$*" >>calls\n[[ "$*" != *"$FAIL_AT"* ]] || exit 2\n'
    )
    stub.chmod(0o755)
    return tmp_path
