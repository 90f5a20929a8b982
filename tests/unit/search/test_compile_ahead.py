"""Where the compiled search lies, and when it is compiled."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch

from espnet_plugin.search import Hypothesis
from espnet_plugin.search.beam import engine
from espnet_plugin.search.beam.compile_ahead import compile_ahead


def test_the_code_is_kept_where_it_can_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine.folder.cache_clear()
    try:
        monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "numba"))
        assert engine.folder().is_relative_to(tmp_path / "numba")
        engine.folder.cache_clear()
        (tmp_path / "file").touch()  # no folder can be made in it, whoever tries
        for name in ("NUMBA_CACHE_DIR", "XDG_CACHE_HOME"):
            monkeypatch.setenv(name, str(tmp_path / "file"))
        folder = engine.folder()
        assert folder.is_dir() and not folder.is_relative_to(tmp_path)
    finally:
        engine.folder.cache_clear()


def test_code_at_another_place_or_of_another_time_is_no_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "numba"))
    names = []
    for place, seconds in (("a", 1), ("a", 1), ("a", 2), ("b", 2)):
        folder = tmp_path / place / "compiled"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "kernel.py").write_text("def run(): ...")
        os.utime(folder / "kernel.py", (seconds, seconds))
        monkeypatch.setattr(engine, "__file__", str(folder.parent / "engine.py"))
        engine.folder.cache_clear()
        names.append(engine.folder().name)
    engine.folder.cache_clear()
    assert names[0] == names[1] and len(set(names)) == 3


def test_the_search_is_compiled_ahead_for_all_that_is_searched_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "load", lambda: _Search)
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    engine.folder.cache_clear()
    engine._mark.cache_clear()
    state = torch.get_rng_state()
    try:
        assert not engine.was_compiled(torch.float32)
        compile_ahead()
        assert engine.was_compiled(torch.float32) and not engine.was_compiled(torch.float64)
    finally:
        engine.folder.cache_clear()
        engine._mark.cache_clear()
    assert torch.equal(state, torch.get_rng_state())
    assert _Search.searched == [torch.float32]


class _Search:
    """In the place of the compiled one."""

    searched: ClassVar[list[torch.dtype]] = []

    def __init__(self, *models: Any) -> None: ...

    def search(self, frames: torch.Tensor, first: Any, lengths: Any, nbest: int) -> list[Any]:
        self.searched.append(frames.dtype)
        return [[Hypothesis((), (), 0.0, 0.0)]]
