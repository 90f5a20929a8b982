"""What people read: files, modules, commands, tests and messages that it names exist."""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from espnet_plugin.bin.main import COMMANDS, JOBS
from espnet_plugin.data.kaldi_files import read_table

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted((ROOT / "docs").rglob("*.md"))
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *PAGES]
LONGEST_README = 120

NAME_OF_TEST = re.compile(r"`(?:tests/(?:unit/)?)?([\w/]+\.py)::(test_\w+)`")
NAME_OF_FILE = re.compile(r"`((?:espnet_plugin|tests|benchmarks|conf|egs2|tools|docs)/[\w./-]+)`")


def name(document: Path) -> str:
    return str(document.relative_to(ROOT))


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) < LONGEST_README


@pytest.mark.parametrize("document", DOCUMENTS, ids=name)
def test_commands_that_a_document_names_exist(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    named = set(re.findall(r"(?:^|`)espnet-progressive ([a-z][a-z0-9-]*)", text, re.M))
    assert named <= {*COMMANDS, *JOBS}


def exists(file: str) -> bool:
    """In the repository, or in a recipe's folder, where `conf/` is the recipe's."""
    return any(ROOT.glob(file)) or any(ROOT.glob(f"egs2/*/asr1/{file}"))


@pytest.mark.parametrize("document", DOCUMENTS, ids=name)
def test_files_that_a_document_names_exist(document: Path) -> None:
    named = set(NAME_OF_FILE.findall(document.read_text(encoding="utf-8")))
    assert not sorted(file for file in named if not exists(file.rstrip("/")))


def test_modules_that_documents_name_exist() -> None:
    """As modules, or as names that the file before the last dot holds."""
    text = "\n".join(document.read_text(encoding="utf-8") for document in DOCUMENTS)
    named = set(re.findall(r"\bespnet_plugin(?:\.[A-Za-z_]\w*)+", text))
    assert len(named) > 15
    lost = []
    for dotted in sorted(named):
        path = ROOT / dotted.replace(".", "/")
        files = [path.parent.with_suffix(".py"), path.parent / "__init__.py"]
        texts = [file.read_text(encoding="utf-8") for file in files if file.is_file()]
        inside = any(re.search(rf"\b{path.name}\b", text) for text in texts)
        if not (path.is_dir() or path.with_suffix(".py").is_file() or inside):
            lost.append(dotted)
    assert not lost


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


PLACE = "<>"


def messages(tree: ast.AST) -> Iterator[str]:
    """The strings of a module as they would be printed, with PLACE for what is filled in."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value
        elif isinstance(node, ast.JoinedStr):
            parts = [p.value if isinstance(p, ast.Constant) else PLACE for p in node.values]
            yield "".join(map(str, parts))


def test_messages_of_the_faq_are_those_of_the_source() -> None:
    text = (ROOT / "docs/faq.md").read_text(encoding="utf-8")
    quoted = re.findall(r"^### `(.+)`$", text, re.M)
    assert len(quoted) >= 25 and len(quoted) == text.count("\n### ")
    sources = [path.read_text(encoding="utf-8") for path in (ROOT / "espnet_plugin").rglob("*.py")]
    known = [message for source in sources for message in messages(ast.parse(source))]
    lost = []
    for message in quoted:
        wanted = re.sub(r"<[^<>]*>", PLACE, message)
        assert len(wanted.replace(PLACE, "").strip()) >= 10, f"too little to recognise: {message}"
        if not any(wanted in found for found in known):
            lost.append(message)
    assert not lost


def test_the_tutorials_loop_makes_sorted_data_folders(tmp_path: Path) -> None:
    text = (ROOT / "docs/tutorial.md").read_text(encoding="utf-8")
    (loop,) = re.findall(r"^```bash\n(.*?)^```", text, re.M | re.S)
    for speaker, number in [("bob", 2), ("ann", 1), ("ann-b", 1)]:
        for part in ("train", "dev", "test"):
            folder = tmp_path / "recordings" / part / speaker
            folder.mkdir(parents=True)
            (folder / f"{number:03}.wav").touch()
            (folder / f"{number:03}.txt").write_text(f"SAID BY {speaker}\n")
    subprocess.run(["bash", "-euc", loop], cwd=tmp_path, check=True)
    for part in ("train", "dev", "test"):
        folder = tmp_path / "data" / part
        texts, audio = read_table(folder / "text"), read_table(folder / "wav.scp")
        assert list(texts) == sorted(texts) == list(audio) == list(read_table(folder / "utt2spk"))
        assert texts["bob-002"] == "SAID BY bob"
        assert read_table(folder / "utt2spk")["ann-b-001"] == "ann-b"
        assert all(Path(file).is_file() for file in audio.values())


def test_sections_that_docstrings_cite_exist() -> None:
    """method.md by heading or stage, maths.md by number."""
    texts = [path.read_text(encoding="utf-8") for path in (ROOT / "espnet_plugin").rglob("*.py")]
    code = "\n".join(texts)
    method = (ROOT / "docs/method.md").read_text(encoding="utf-8")
    maths = (ROOT / "docs/maths.md").read_text(encoding="utf-8")
    headings = re.findall(r'method\.md, "(.+?)[":]', code)
    stages = re.findall(r"method\.md, stage (\d)", code)
    numbers = re.findall(r"maths\.md, section (\d)", code)
    assert len(headings) >= 5 and len(stages) >= 5 and len(numbers) >= 3
    assert not [heading for heading in set(headings) if f"\n## {heading}" not in method]
    assert not [stage for stage in set(stages) if f"\n## Stage {stage}" not in method]
    assert not [number for number in set(numbers) if f"\n## {number}. " not in maths]
