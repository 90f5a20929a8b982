"""Every program of a recipe's steps on a full and on a read-only disk, and killed in the middle.

Each time: one message with the file and what to do; what is whole stays; the same command then
leaves what an undisturbed run leaves.
"""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from espnet_plugin.bin.main import main
from espnet_plugin.corpora.kaldi_dir import write_table
from espnet_plugin.corpora.preparation import run_preparation
from tests.disk_faults import full_disk, heed_ctrl_c, read_only

WORDS = ["ZERO", "ONE", "TWO", "THREE", "FOUR", "FIVE", "SIX", "SEVEN", "EIGHT", "NINE"]
KEYS = [f"s{n % 3}-u{n:02d}" for n in range(24)]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A recipe's folder: a recording with segments, texts; the current folder."""
    noise = np.random.default_rng(0).integers(-3000, 3000, 24 * 1600, dtype=np.int16)
    soundfile.write(tmp_path / "r.wav", noise, 16000, subtype="PCM_16")
    data = tmp_path / "data/train"
    write_table(data / "wav.scp", {"r": str(tmp_path / "r.wav")})
    write_table(data / "segments", {k: f"r {n / 10} {(n + 1) / 10}" for n, k in enumerate(KEYS)})
    texts = {k: " ".join(WORDS[(n + i) % 10] for i in range(4)) for n, k in enumerate(KEYS)}
    write_table(data / "text", texts)
    write_table(data / "utt2spk", {k: k[:2] for k in KEYS})
    monkeypatch.chdir(tmp_path)
    return tmp_path


def words(line: str) -> list[str]:
    return line.split()


FORMAT = words("format_data --data_dir data/train --out_dir out --fs 16000 --nj 2")
TO_ORG = words("format_data --data_dir data/train --out_dir org/train --fs 16000")
TOKENS = "make_tokens --text data/train/text --out_dir out"
CHECK = "check_sets --org org --dump out --train_sets train train --test_sets -- --feats_type raw"
#: Step of the recipe -> what comes before it, and its program.
STEPS = {
    "2 format": [FORMAT],
    "2 perturb": [
        TO_ORG,
        words("perturb_speed --data_dir org/train --out_dir out --factors 0.9 1.1 --nj 2"),
    ],
    "3 characters": [words(f"{TOKENS} --token_type char")],
    "3 sentencepiece": [words(f"{TOKENS} --token_type bpe --nbpe 25")],
    "4 check": [TO_ORG, words(f"{CHECK} --fs 16000 --token_type char")],
    "7 n-gram": [words("train_ngram --text data/train/text --out out/3gram.arpa --order 3")],
    "9 score": [words("score --ref data/train/text --hyp out/hyp/text --out out/scores")],
}
#: Bytes that a file may have: none, and some of what these steps write.
ROOMS = (0, 300, 1200)


def prepare(place: Path, step: str) -> list[str]:
    """Run what comes before a step; its own command line."""
    if step == "9 score":
        (place / "out/hyp").mkdir(parents=True)
        hypotheses = (place / "data/train/text").read_text().replace("ONE", "NINE")
        (place / "out/hyp/text").write_text(hypotheses)
    for before in STEPS[step][:-1]:
        assert main(before) == 0
    return STEPS[step][-1]


def contents(folder: Path) -> dict[str, bytes]:
    """Every file, without sentencepiece's own notes of its time."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def errors(caplog: pytest.LogCaptureFixture) -> list[str]:
    found = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    caplog.clear()
    return found


@pytest.mark.parametrize("step", STEPS)
def test_a_full_disk(place: Path, step: str, caplog: pytest.LogCaptureFixture) -> None:
    command = prepare(place, step)
    failed = 0
    for room in ROOMS:
        with full_disk(room):
            outcome = main(command)
        messages = errors(caplog)
        if outcome == 0:  # all files of this step are that small
            break
        failed += 1
        assert outcome == 2 and len(messages) == 1, messages
        named = messages[0].partition(": ")[0]
        assert "out" in named or named == "/dev/shm", messages
        assert "`ulimit -f`" in messages[0] or "is the disk full?" in messages[0], messages
    assert failed
    assert main(command) == 0
    done = contents(place / "out")
    assert not [name for name in done if name.endswith((".tmp", ".trial"))]
    for path in (place / "out").rglob("*.flac"):
        assert len(soundfile.read(path)[0]) > 0
    (place / "out").rename(place / "disturbed")
    if step == "9 score":
        (place / "out").mkdir()
        (place / "disturbed/hyp").rename(place / "out/hyp")
        done = {name: text for name, text in done.items() if not name.startswith("hyp/")}
    assert main(command) == 0
    whole = contents(place / "out")
    whole = {name: text for name, text in whole.items() if not name.startswith("hyp/")}
    partial = {name for name in done if name.endswith(".partial")}
    assert {name: done[name] for name in done.keys() - partial} == whole


@pytest.mark.parametrize("step", STEPS)
def test_a_read_only_disk(place: Path, step: str, caplog: pytest.LogCaptureFixture) -> None:
    command = prepare(place, step)
    before = contents(place)
    with read_only(place / "out"):
        assert main(command) == 2
    [message] = errors(caplog)
    assert message.startswith((str(place / "out"), "out")), message
    assert "mounted read-only; mount it for writing, or give another folder" in message
    assert contents(place) == before
    assert main(command) == 0


SCRIPT = """
mount -t tmpfs -o size=64k tmpfs "$1" || exit 77
format() { "$2" -m espnet_plugin format_data --data_dir "$3" --out_dir "$1/out" --fs 16000; }
format "$@" 2>"$4.log"
echo "status $?"; cat "$4.log"
mount -o remount,size=4m "$1"
format "$@" || exit 1
cp -r "$1/out" "$4"
"""


def test_a_small_disk_of_its_own(place: Path) -> None:
    """The real thing: FLAC files until a tmpfs of 64 KB is full; then it grows."""
    mounted, kept = place / "mounted", place / "kept"
    mounted.mkdir()
    command = ["unshare", "-rm", "sh", "-c", SCRIPT, "sh", mounted, sys.executable]
    command += [place / "data/train", kept]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    if done.returncode == 77 or "unshare" in done.stderr:
        pytest.skip("no mounts for this user here; the limits on file sizes above stand for them")
    assert done.returncode == 0, done.stderr
    said = done.stdout.splitlines()
    assert said[0] == "status 2"
    assert said[1].startswith(f"ERROR: {mounted}/out/audio/r/") and len(said) == 3, said
    assert ".flac: the disk is full; free some space there, then give the same" in said[1]
    files = list(kept.rglob("*.flac"))
    assert len(files) == len(KEYS)
    assert all(len(soundfile.read(path)[0]) == 1600 for path in files)


def test_names_that_are_too_long_for_a_disk(place: Path, caplog: pytest.LogCaptureFixture) -> None:
    data = place / "data/train"
    long = "s0-" + "ü" * 130  # 263 bytes
    for name in ("segments", "text", "utt2spk"):
        (data / name).write_text((data / name).read_text().replace("s0-u00", long))
    assert main(FORMAT) == 2
    [message] = errors(caplog)
    assert long in message and "the name is too long for this disk (often 255 bytes)" in message
    for name in ("segments", "text", "utt2spk"):
        (data / name).write_text((data / name).read_text().replace(long, "s0-ü" + "u" * 200))
    assert main(FORMAT) == 0


@pytest.mark.parametrize("step", ["2 format", "2 perturb"])
def test_lists_that_change_while_they_are_read(
    place: Path, step: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = prepare(place, step)
    text = place / ("data/train/text" if step == "2 format" else "org/train/text")
    module = importlib.import_module(f"espnet_plugin.jobs.{command[0]}")
    work = module.work_through

    def changing(*arguments: Any) -> None:
        work(*arguments)
        text.write_text(text.read_text().replace("ONE", "TEN"))

    with monkeypatch.context() as patch:
        patch.setattr(module, "work_through", changing)
        assert main(command) == 2
    [message] = errors(caplog)
    assert f"{text.relative_to(place)}: changed during" in message
    assert "let the change come to its end, then give the same command again" in message
    assert main(command) == 0
    assert "TEN" in (place / "out/text").read_text()
    assert "ONE" not in (place / "out/text").read_text()


def test_a_corpus_preparation_on_a_full_disk(place: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Step 1, as the recipes' local/data.py do it."""
    with full_disk(0):
        assert run_preparation(lambda: write_table(place / "data/new/text", {"u": "A"})) == 1
    [message] = errors(caplog)
    assert message.startswith(f"{place / 'data/new/text'}: no file may be so large here")


def slow_commands(place: Path) -> None:
    """A wav.scp of commands that each take half a second."""
    (place / "data/train/segments").unlink()
    table = dict.fromkeys(KEYS, f"sleep 0.5; cat {place / 'r.wav'} |")
    write_table(place / "data/train/wav.scp", table)


def processes_about(folder: Path) -> list[str]:
    """Living processes in ``folder``."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            inside = os.readlink(path / "cwd") == str(folder)
            state = (path / "stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            continue
        if inside and state != "Z" and int(path.name) != os.getpid():
            found.append((path / "cmdline").read_bytes().replace(b"\0", b" ").decode())
    return found


def wait_for(condition: Callable[[], object], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.05)


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_no_worker_outlives_the_formatting(place: Path, number: signal.Signals) -> None:
    slow_commands(place)
    command = [sys.executable, "-m", "espnet_plugin", *FORMAT]
    process = subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, start_new_session=True, preexec_fn=heed_ctrl_c
    )
    wait_for(lambda: list((place / "out").rglob("*.flac")))
    process.send_signal(number)
    _, said = process.communicate(timeout=30)
    wait_for(lambda: not processes_about(place), 5)
    whole = list((place / "out").rglob("*.flac"))
    assert 0 < len(whole) < len(KEYS)
    assert all(len(soundfile.read(path)[0]) == 24 * 1600 for path in whole)
    if number == signal.SIGINT:
        assert process.returncode == 130 and "interrupted; the same command continues" in said
        assert "Traceback" not in said


def test_a_killed_worker_is_no_riddle(place: Path) -> None:
    slow_commands(place)
    command = [sys.executable, "-m", "espnet_plugin", *FORMAT]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)

    def workers() -> list[str]:
        return Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()

    wait_for(lambda: list((place / "out").rglob("*.flac")))
    os.kill(int(workers()[0]), signal.SIGKILL)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 2 and "Traceback" not in said
    assert "a worker process was killed from outside, by the kernel where memory ran out" in said
    assert "give a smaller --nj or close other programs, then give the same command again" in said
