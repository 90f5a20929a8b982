"""Fixtures of all tests."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def preloaded_python(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """For ``--python``: programs of ours start at once, since ESPnet is imported only once."""
    if sys.platform != "linux":
        yield sys.executable
        return
    folder = tmp_path_factory.mktemp("preload")
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "espnet_plugin.jobs.preload", str(folder)],
            cwd=ROOT,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stdout=log,
            stderr=log,
        )
    while not (folder / "python").exists():
        assert server.poll() is None, (folder / "log").read_text()
        time.sleep(0.02)
    yield str(folder / "python")
    server.kill()
    server.wait()
