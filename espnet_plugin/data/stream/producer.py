"""One running producer: its records in a bounded queue, its last words, its end."""

from __future__ import annotations

import collections
import contextlib
import os
import queue
import signal
import subprocess
import sys
import threading
from typing import BinaryIO

from espnet_plugin.data.stream.records import CutOff, Record, read_record

_LINES = 10  # of standard error, for messages
_POLL = 0.2  # seconds
_PATIENCE = 5.0  # seconds for a process that has closed its pipe to tell its status


class Producer:
    """A started command.

    Args:
        line: for bash.
        expected: number of its first record.
        step: from one of its records' numbers to the next.
        ahead: records that may wait here; it is stopped by the full pipe meanwhile.
        any_start: whether its first number may be another one (a source that does not replay).
    """

    def __init__(
        self, line: str, expected: int, step: int, ahead: int, any_start: bool = False
    ) -> None:
        self._line, self._expected, self._step = line, expected, step
        self._any_start = any_start
        launcher = [
            sys.executable,
            "-m",
            "espnet_plugin.data.stream.launch",
            str(os.getpid()),
            line,
        ]
        self._process = subprocess.Popen(
            launcher,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        assert self._process.stdout is not None and self._process.stderr is not None
        self._records: queue.Queue[Record | Exception | None] = queue.Queue(max(ahead, 1))
        self._lines: collections.deque[str] = collections.deque(maxlen=_LINES)
        self._closed = threading.Event()
        self._threads = [
            threading.Thread(target=self._read, args=(self._process.stdout,), daemon=True),
            threading.Thread(target=self._listen, args=(self._process.stderr,), daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    def next(self, timeout: float) -> Record:
        """Its next record.

        Raises:
            ValueError: it has ended, is silent for `timeout` seconds, or wrote no record; with the
                record's number and its last words.
        """
        try:
            found = self._records.get(timeout=timeout)
        except queue.Empty:
            raise self._error(
                f"nothing for {timeout:g} s; raise stream.timeout if that is usual"
            ) from None
        if isinstance(found, Record):
            if self._any_start:
                self._expected, self._any_start = found.number, False
            if found.number != self._expected:
                raise self._error(
                    f"it calls itself {found.number}; the producer must pass over as many as "
                    "--skip says, and count what it passed over"
                )
            self._expected += self._step
            return found
        if found is None:
            raise self._error(f"the producer has ended ({self._status()}); a stream has no end")
        text = str(found).removeprefix(f"record {self._expected}: ")
        raise self._error(f"{text} ({self._status()})" if isinstance(found, CutOff) else text)

    def close(self) -> None:
        """End it."""
        self._closed.set()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        for thread in self._threads:
            thread.join(_PATIENCE)
        for stream in (self._process.stdout, self._process.stderr):
            assert stream is not None
            stream.close()

    def _read(self, stream: BinaryIO) -> None:
        expected = self._expected
        while True:
            found: Record | Exception | None
            try:
                found = read_record(stream, expected)
            except ValueError as error:
                found = error
            while not self._closed.is_set():
                with contextlib.suppress(queue.Full):
                    self._records.put(found, timeout=_POLL)
                    break
            if not isinstance(found, Record) or self._closed.is_set():
                return
            expected = found.number + self._step

    def _listen(self, stream: BinaryIO) -> None:
        for line in stream:
            self._lines.append(line.decode(errors="replace").rstrip())

    def _status(self) -> str:
        try:
            status = self._process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            return "still running"
        self._threads[1].join(_PATIENCE)  # the last words come through a pipe of their own
        return f"killed by signal {-status}" if status < 0 else f"exit status {status}"

    def _error(self, what: str) -> ValueError:
        self._threads[1].join(_POLL)  # what it said before the fault may come a moment later
        said = "\n".join(f"  | {line}" for line in self._lines) or "  | (nothing)"
        return ValueError(
            f"stream: record {self._expected}: {what}. Command: {self._line}\n"
            f"its last words on standard error:\n{said}"
        )
