"""Fixtures: the copy of the corpus, and the preparation to run on it."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

from tests.recipes.librispeech_data.handwritten_corpus import make_corpus, make_resources

LOCAL = Path(__file__).resolve().parents[3] / "egs2" / "librispeech" / "asr1" / "local"
MODULES = ("acquire", "language", "openslr", "parts")


@pytest.fixture
def data_py(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The recipe's local/data.py, its neighbours importable only for the length of a test."""
    monkeypatch.syspath_prepend(str(LOCAL))
    specification = importlib.util.spec_from_file_location("librispeech_data", LOCAL / "data.py")
    assert specification is not None and specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    yield module
    for name in MODULES:
        sys.modules.pop(name, None)


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    make_resources(tmp_path / "slr11")
    return make_corpus(tmp_path / "LibriSpeech")


@pytest.fixture
def prepare(data_py: ModuleType, tmp_path: Path) -> Callable[..., int]:
    def call(root: Path, *options: str, subset: bool = True) -> int:
        arguments = ["--librispeech", str(root), "--lm_resources", str(tmp_path / "slr11")]
        arguments += ["--output", str(tmp_path / "data"), "--train_parts", "100", "--nj", "1"]
        status: int = data_py.main([*arguments, *options, *(["--allow_subset"] if subset else [])])
        return status

    return call
