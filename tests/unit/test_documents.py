"""What people read: lines short enough for an editor, names and tests that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted((ROOT / "docs").rglob("*.md"))
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *PAGES]
LONGEST_LINE = 120

NAME_OF_TEST = re.compile(r"`(?:tests/(?:unit/)?)?([\w/]+\.py)::(test_\w+)`")
NAME_OF_FILE = re.compile(r"`((?:espnet_plugin|tests|benchmarks|conf|egs2|tools|docs)/[\w./-]+)`")


def name(document: Path) -> str:
    return str(document.relative_to(ROOT))


@pytest.mark.parametrize("document", DOCUMENTS, ids=name)
def test_no_line_is_too_long(document: Path) -> None:
    lines = document.read_text(encoding="utf-8").splitlines()
    long = [(n, len(line)) for n, line in enumerate(lines, 1) if len(line) > LONGEST_LINE]
    assert not long, f"{name(document)}: (line, characters) {long}, at most {LONGEST_LINE}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=name)
def test_files_that_a_document_names_exist(document: Path) -> None:
    named = set(NAME_OF_FILE.findall(document.read_text(encoding="utf-8")))
    missing = sorted(file for file in named if not any(ROOT.glob(file.rstrip("/"))))
    assert not missing


def test_tests_that_documents_name_exist() -> None:
    texts = {document: document.read_text(encoding="utf-8") for document in DOCUMENTS}
    named = {pair for text in texts.values() for pair in NAME_OF_TEST.findall(text)}
    assert len(named) >= 10
    lost = []
    for file, function in sorted(named):
        found = [
            path for path in (ROOT / "tests" / file, ROOT / "tests/unit" / file) if path.is_file()
        ]
        if not found or f"def {function}(" not in found[0].read_text(encoding="utf-8"):
            lost.append(f"{file}::{function}")
    assert not lost
