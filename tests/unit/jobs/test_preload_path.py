"""A program run by the preload server finds modules where its client's PYTHONPATH says."""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path

import pytest

from espnet_plugin.jobs.preload import search_also


def test_the_clients_folders_come_after_its_own_and_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", ["work", *sys.path[1:]])
    before = list(sys.path)
    (tmp_path / "module_of_this_test.py").write_text("found = True\n")
    search_also(os.pathsep.join([str(tmp_path), "", before[1]]))
    assert sys.path == ["work", str(tmp_path), *before[1:]]
    assert importlib.import_module("module_of_this_test").found
    search_also("")
    assert sys.path == ["work", str(tmp_path), *before[1:]]
