"""One runner per experiment folder.

The lock is the library filelock's, which asks the kernel for it: however its process ends, and
whatever process has its id afterwards, it is gone with that process. On file systems without such
locks (some NFS and Lustre mounts) the library writes a mark instead, with the process's id, its
start and the machine's boot, so that a reused id does not pass for the holder.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import logging
import os
import socket
import sys
import time
from pathlib import Path
from types import TracebackType

from filelock import BaseFileLock, FileLock, SoftFileLock, Timeout

LOCK, MARK, RUNNER = "pipeline.lock", "pipeline.mark", "pipeline.runner"
#: `is_locked` of another process holds it for a moment.
_PATIENCE_SECONDS = 0.4
_UNSUPPORTED = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS)


class RunLock:
    """An exclusive lock on an experiment folder, held while a pipeline runs in it.

    ``pipeline.runner`` names the holder, for messages only.

    Raises:
        ValueError: (on entering) another process holds the lock.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lock: BaseFileLock | None = None

    def __enter__(self) -> RunLock:
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            self._lock = _acquired(self.folder)
        except Timeout as error:
            raise ValueError(
                f"{self.folder}: another pipeline is running here ({runner(self.folder)}); wait "
                "for it, stop it, or use another tag (a recipe's --asr_tag). If it ran on a "
                f"machine that is gone, remove {error.lock_file}"
            ) from error
        record = self.folder / RUNNER
        if record.exists():
            logging.info(
                "%s: a former runner (%s) ended without notice", self.folder, runner(self.folder)
            )
        now = time.strftime("%Y-%m-%d %H:%M:%S")
        program = Path(sys.argv[0]).name
        holder = {
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "since": now,
            "program": program,
        }
        with contextlib.suppress(OSError):  # a full disk speaks up at the first result
            record.write_text(json.dumps(holder) + "\n", encoding="utf-8")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._lock is not None
        with contextlib.suppress(OSError):  # a disk that went away has taken it along
            (self.folder / RUNNER).unlink(missing_ok=True)
        self._lock.release()
        self._lock = None


def runner(folder: Path) -> str:
    """Who holds the lock, or held it last: ``pid 7 on host, since 2026-01-01 10:00:00``."""
    try:
        found = json.loads((folder / RUNNER).read_text(encoding="utf-8"))
        return f"pid {found['pid']} on {found['host']}, since {found['since']}, {found['program']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "which has not said who it is"


def is_locked(folder: Path) -> bool:
    """Whether a pipeline is running in ``folder`` now; the folder may be another user's."""
    path = folder / LOCK
    if not path.exists():
        return False
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno not in _UNSUPPORTED or _is_marked(folder / MARK)
    finally:
        os.close(descriptor)
    return False


def _is_marked(mark: Path) -> bool:
    if not mark.exists():
        return False
    try:
        with SoftFileLock(mark).acquire(blocking=False):
            return False  # the mark of a process that is gone
    except OSError:  # Timeout is one
        return True


def _acquired(folder: Path) -> BaseFileLock:
    """The lock, taken.

    Raises:
        Timeout: somebody has it.
    """
    lock: BaseFileLock = FileLock(folder / LOCK)
    try:
        return _taken(lock)
    except OSError as error:
        if isinstance(error, Timeout) or error.errno not in _UNSUPPORTED:
            raise
    return _taken(SoftFileLock(folder / MARK))


def _taken(lock: BaseFileLock) -> BaseFileLock:
    lock.acquire(timeout=_PATIENCE_SECONDS, poll_interval=0.02)
    return lock
