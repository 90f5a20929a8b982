"""pipeline.json: survives kills, refuses what it cannot read; the lock."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from espnet_plugin.pipeline.state.fingerprint import (
    fingerprint,
    relevant_arguments,
    relevant_options,
)
from espnet_plugin.pipeline.state.lock import LOCK, MARK, RUNNER, RunLock, is_locked
from espnet_plugin.pipeline.state.state import PipelineState


def test_round_trip_and_accumulated_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr(time, "time", lambda: now[0])
    path = tmp_path / "pipeline.json"
    state = PipelineState(path)
    state.begin("train:align", "f", "align", {"x": 1.0})
    now[0] += 7
    state.beat("train:align")
    now[0] += 100  # killed here, begun again later: the gap is no working time
    state = PipelineState.load(path)
    state.begin("train:align", "f", "align", {"x": 1.0})
    now[0] += 3
    state.end("train:align", "done")
    step = PipelineState.load(path).step("train:align")
    assert (step.status, step.seconds, step.attempts) == ("done", 10.0, 2)
    assert (step.started, step.finished, step.pid) == (1000.0, 1110.0, None)


def test_killed_while_saving_leaves_a_whole_file(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path\n"
        "from espnet_plugin.pipeline.state.state import PipelineState\n"
        "state = PipelineState(Path(sys.argv[1]))\n"
        "for n in range(2000): state.step(f'step{n}')\n"
        "while True: state.save()\n"
    )
    path = tmp_path / "pipeline.json"
    for _ in range(3):
        process = subprocess.Popen([sys.executable, "-c", program, str(path)])
        deadline = time.monotonic() + 20
        while not path.exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(0.07)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        assert len(PipelineState.load(path).steps) == 2000


@pytest.mark.parametrize("text", ["", "{", "[]", '{"version": 99, "steps": {}}'])
def test_unreadable_state_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "pipeline.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"pipeline\.json"):
        PipelineState.load(path)


HOLDER = """
import errno, fcntl, sys, time
from pathlib import Path
from espnet_plugin.pipeline.state.lock import RunLock

def unsupported(descriptor, operation):
    raise OSError(errno.ENOLCK, "No locks available")

if sys.argv[2] == "unsupported":
    fcntl.flock = unsupported
with RunLock(Path(sys.argv[1])):
    print("locked", flush=True)
    time.sleep(60)
"""


def refused_until_killed(folder: Path, locks: str) -> int:
    """Another process holds the lock, and is killed; its id."""
    command = [sys.executable, "-c", HOLDER, str(folder), locks]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdout.readline() == b"locked\n"
        assert is_locked(folder)
        with pytest.raises(ValueError, match=f"pid {process.pid} on .*remove"), RunLock(folder):
            pass
        process.kill()
    return process.pid


def test_lock_is_exclusive_and_dies_with_its_process(tmp_path: Path) -> None:
    refused_until_killed(tmp_path, "supported")
    assert not is_locked(tmp_path)
    with RunLock(tmp_path):
        assert is_locked(tmp_path)


def test_a_lock_left_by_a_crash_whose_process_id_lives_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """After a reboot: the files name a process id that another process, here this one, has now."""
    (tmp_path / LOCK).write_text(f"pid {os.getpid()} on {socket.gethostname()}\n")  # as 0.1.0's
    left = {"pid": os.getpid(), "host": socket.gethostname(), "since": "then", "program": "train"}
    (tmp_path / RUNNER).write_text(json.dumps(left))
    assert not is_locked(tmp_path)
    with caplog.at_level("INFO"), RunLock(tmp_path):
        assert f"a former runner (pid {os.getpid()} on" in caplog.text
        assert "since then" not in (tmp_path / RUNNER).read_text()
    assert not (tmp_path / RUNNER).exists()


def test_file_systems_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A mark takes the lock's place; a reused process id does not pass for its holder."""

    def unsupported(descriptor: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", unsupported)
    pid = refused_until_killed(tmp_path, "unsupported")
    mark = (tmp_path / MARK).read_text()
    assert mark.startswith(f"{pid}\n")
    (tmp_path / MARK).write_text(mark.replace(str(pid), str(os.getpid()), 1))
    with RunLock(tmp_path):
        assert is_locked(tmp_path)
    assert not is_locked(tmp_path)


def test_fingerprints_see_content_not_time(tmp_path: Path) -> None:
    path = tmp_path / "text"
    path.write_text("a b\n")
    first = fingerprint({"x": 1}, [path], ["u"])
    os.utime(path, (1, 1))
    assert fingerprint({"x": 1}, [path], ["u"]) == first
    path.write_text("a c\n")
    assert fingerprint({"x": 1}, [path], ["u"]) != first
    with pytest.raises(ValueError, match="no such file"):
        fingerprint({}, [tmp_path / "none"], [])


def test_what_cannot_change_results_is_left_out() -> None:
    assert relevant_options({"num_workers": 3, "lr": 1}) == {"lr": 1}
    arguments = ["--num_workers", "3", "--max_epoch", "2", "--ngpu=1", "--optim_conf", "a=1", "b=2"]
    assert relevant_arguments(arguments) == ["--max_epoch", "2", "--optim_conf", "a=1", "b=2"]
