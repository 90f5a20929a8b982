"""The snippets of docs/search.md run."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "search.md"


def test_snippets_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    snippets = re.findall(r"^```python\n(.*?)^```$", DOCUMENT.read_text(), re.M | re.S)
    assert len(snippets) >= 7
    namespace: dict = {}
    for snippet in snippets:
        exec(compile(snippet, str(DOCUMENT), "exec"), namespace)
    assert namespace["hypothesis"].words
