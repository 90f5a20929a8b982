"""The snippets of docs/search.md run: Python, commands, and the YAML files they use."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from string import Template

import pytest

from espnet_plugin.bin.main import COMMANDS, JOBS
from espnet_plugin.bin.main import main as espnet_progressive
from espnet_plugin.data.kaldi_files import read_table
from tests.tiny_model import write_data, write_model

DOCUMENT = Path(__file__).resolve().parents[3] / "docs" / "search.md"
TEXTS = {f"u{n}": text for n, text in enumerate(["AB BA", "BA AB B", "B", "AB AB"])}


def snippets() -> list[tuple[str, str]]:
    """(language, text) of every block that is to run."""
    return re.findall(r"^```(python|sh|yaml)\n(.*?)^```$", DOCUMENT.read_text(), re.M | re.S)


def run_commands(text: str, variables: dict[str, str]) -> int:
    """The little of a shell that the document uses; returns the number of commands."""
    count = 0
    for line in text.replace("\\\n", " ").splitlines():
        if assignment := re.fullmatch(r'([A-Z]+)="(.*)"', line):
            variables[assignment[1]] = assignment[2]
        elif line:
            name, *arguments = shlex.split(Template(line).substitute(variables))
            assert name == "espnet-progressive", line
            quiet = ["--num_workers", "0"] if arguments[0] == "decode" else []
            assert espnet_progressive([*arguments, *quiet]) == 0, line
            count += 1
    return count


def test_snippets_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["espnet-progressive"])
    write_model(tmp_path / "exp/full_sum")
    for name in ("train", "dev"):
        write_data(tmp_path / "data" / name, TEXTS)
    Path("data/lexicon.txt").write_text("AB A B\nBA B A\nB B\n")
    namespace: dict = {}
    variables: dict[str, str] = {}
    counts = dict.fromkeys(("python", "sh", "yaml"), 0)
    for language, text in snippets():
        if language == "sh":
            counts["sh"] += run_commands(text, variables)
            continue
        counts[language] += 1
        if language == "yaml":
            name = text.splitlines()[0].removeprefix("# ")
            Path(name).write_text(text)
        else:
            exec(compile(text, str(DOCUMENT), "exec"), namespace)
    assert counts["python"] >= 8 and counts["sh"] >= 10 and counts["yaml"] >= 1
    assert namespace["hypothesis"].words
    for decoding in ("plain", "lm", "several", "lexicon", "lodr", "final"):
        assert set(read_table(Path("exp") / decoding / "1best_recog/text")) == set(TEXTS)


def test_commands_that_the_document_names_exist() -> None:
    named = set(re.findall(r"espnet-progressive ([a-z-]+)", DOCUMENT.read_text()))
    assert named and named <= {*COMMANDS, *JOBS}
