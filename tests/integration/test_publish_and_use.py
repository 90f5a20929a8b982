"""The packed demo model, published and used as a stranger does: in fresh processes."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.reference.hub_server import HubServer

ROOT = Path(__file__).resolve().parents[2]
MODEL = ROOT / "tests/fixtures/mini_tts.zip"
AUDIO = ROOT / "tests/fixtures/call.flac"
SAID = ["CALL EIGHT NINE ONE SEVEN", "TURN RADIO OFF"]
TOKEN = "hf_loopbackTokenThatMustNotLeak"

pytestmark = pytest.mark.slow  # each process imports ESPnet


def environment(**more: str) -> dict[str, str]:
    """Ours, with the environment's programs first on the path, as after `make setup`."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "PATH": path, **more}


def call(command: list[str], folder: Path, **more: str) -> str:
    done = subprocess.run(
        command, cwd=folder, env=environment(**more), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert TOKEN not in done.stdout + done.stderr
    return done.stdout


def blocks(document: Path, heading: str) -> list[tuple[str, str]]:
    """(language, code) of the blocks in one section of a Markdown file."""
    section = document.read_text(encoding="utf-8").split(f"\n## {heading}\n")[1].split("\n## ")[0]
    return re.findall(r"^```(\w+)\n(.*?)^```", section, re.MULTILINE | re.DOTALL)


def test_the_readme_on_using_a_model_runs_as_written(tmp_path: Path) -> None:
    cache = {"ESPNET_PROGRESSIVE_CACHE": str(tmp_path / "cache")}
    found = dict(blocks(ROOT / "README.md", "Use a model"))
    assert set(found) == {"sh", "python"}
    assert shutil.which("espnet-progressive", path=environment()["PATH"])
    said = call(["bash", "-euc", found["sh"]], ROOT, **cache)
    assert said.splitlines() == SAID


def test_python_lines_of_readme_and_transcription_page_run_as_written(tmp_path: Path) -> None:
    """In one process: importing ESPnet is what takes the time."""
    code = dict(blocks(ROOT / "README.md", "Use a model"))["python"]
    ((_, page),) = blocks(ROOT / "docs/transcription.md", "From Python")
    cache = {"ESPNET_PROGRESSIVE_CACHE": str(tmp_path / "cache")}
    said = call([sys.executable, "-c", f"{code}\n{page}"], ROOT, **cache)
    assert said.startswith(f"{SAID[0]}\n")
    assert said.count("-->") == 2 and f"\n{SAID[0]}\n" in said and f"\n{SAID[1]}\n" in said


def test_up_to_the_hub_and_down_again(tmp_path: Path) -> None:
    """The scores after the way over the Hub are those of the local file."""
    empty = tmp_path / "empty"
    empty.mkdir()
    code = f"""
import soundfile
from espnet_plugin.inference.speech2text import Speech2Text
speech, _ = soundfile.read({str(AUDIO)!r}, dtype="float32")
for model in ({str(MODEL)!r}, "tester/demo@v1"):
    (text, tokens, ids, found), *_ = Speech2Text.from_pretrained(model)(speech)
    print(f"{{text}}|{{ids}}|{{found.score:.5f}}")
from espnet_model_zoo.downloader import ModelDownloader
files = ModelDownloader("zoo").download_and_unpack("tester/demo@v1")
print(sorted(files))
from espnet_plugin.bin.transcribe import main
assert main(["--model", "tester/demo@v1", {str(AUDIO)!r}]) == 0
"""
    with HubServer(TOKEN) as hub:
        hub.faults.broken_uploads = 1
        home = hub.environment(tmp_path / "hub")
        upload = ["--pack", str(MODEL), "--hf_repo", "tester/demo", "--revision", "v1", "--private"]
        command = [sys.executable, "-m", "espnet_plugin.bin.upload", *upload]
        assert f"{hub.url}/tester/demo/commit/" in call(
            command, empty, **home, ESPNET_PROGRESSIVE_CACHE=str(tmp_path / "cache")
        )
        card = hub.files("tester/demo", "v1")["README.md"].decode()
        assert "|**mbr_default**|2.3|4.4|" in card
        lines = call(
            [sys.executable, "-c", code],
            empty,
            **home,
            ESPNET_PROGRESSIVE_CACHE=str(tmp_path / "cache"),
        ).splitlines()
    local, hub_result, zoo, *transcript = lines
    assert zoo == "['asr_model_file', 'asr_train_config']"  # ESPnet's own model zoo reads it too
    assert local == hub_result
    assert transcript == SAID
    for path in tmp_path.rglob("*"):
        assert not path.is_file() or TOKEN.encode() not in path.read_bytes(), path
