"""Child processes that log to a file and die with their parent."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from espnet_plugin.corpora.faults import AGAIN, remedy_of
from espnet_plugin.corpora.processes import KILLED, die_with_parent

#: A line of a log that says what went wrong.
_COMPLAINT = re.compile(r"^[\w.]*(Error|Exception|Interrupt)\b|\bERROR\b|^killed by signal")


class ChildFailed(RuntimeError):
    """A child process ended with a status other than zero."""

    def __init__(self, what: str, status: int, log: Path) -> None:
        self.status = status
        self.log = log
        how = f"killed by signal {-status}" if status < 0 else f"exit status {status}"
        tail = last_lines(log)
        why = killed_reason(-status) if status < 0 else _reason(tail)
        super().__init__(f"{what}: {how}{why and ': '}{why}; the end of {log}:\n{tail}")


def killed_reason(number: int) -> str:
    """What to think of a process that this signal ended; empty where there is nothing to say."""
    if number != signal.SIGKILL:
        return ""
    return f"{KILLED}; give smaller batches or a smaller --nj, {AGAIN}"


def _reason(tail: str) -> str:
    """Why a program ended: its last word, and a remedy where that is known."""
    stripped = [line.strip() for line in tail.splitlines()]
    lines = [line for line in stripped if _COMPLAINT.search(line)]
    if not lines:
        return ""
    remedy = remedy_of(lines[-1])
    return f"{lines[-1]} ({remedy})" if remedy else lines[-1]


def start(
    command: Sequence[str], log: Path, environment: Mapping[str, str] | None = None
) -> subprocess.Popen[bytes]:
    """Start a command, its output appended to ``log``.

    The child is killed when this process dies, even by ``kill -9``: an orphan would go on
    writing into a folder that the next run of the pipeline believes to be its own. Call from
    the main thread (the kernel ties the parent's death to the thread that forked).
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    parent = os.getpid()

    with log.open("ab") as stream:
        stream.write(f"# {' '.join(command)}\n# started {time.ctime()}\n".encode())
        stream.flush()
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONUNBUFFERED": "1", **(environment or {})},
            preexec_fn=lambda: die_with_parent(parent),
        )


def wait_all(
    processes: Sequence[subprocess.Popen[bytes]],
    tick: Callable[[], None],
    interval: float = 0.5,
) -> list[int]:
    """Wait for all, calling ``tick`` every ``interval`` seconds; kill them on any exception."""
    try:
        while any(process.poll() is None for process in processes):
            tick()
            _wait_some(processes, interval)
        tick()
    except BaseException:
        for process in processes:
            stop(process)
        raise
    return [process.returncode for process in processes]


def stop(process: subprocess.Popen[bytes], patience: float = 5.0) -> None:
    """Terminate a child, by force when it does not go."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(patience)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def last_lines(path: Path, count: int = 20) -> str:
    """The end of a log, for error messages."""
    if not path.exists():
        return "(no log)"
    with path.open("rb") as stream:
        stream.seek(0, os.SEEK_END)
        stream.seek(max(0, stream.tell() - 16384))
        lines = stream.read().decode(errors="replace").splitlines()
    return "\n".join("    " + line for line in lines[-count:])


def _wait_some(processes: Sequence[subprocess.Popen[bytes]], interval: float) -> None:
    for process in processes:
        if process.poll() is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(interval)
            return
