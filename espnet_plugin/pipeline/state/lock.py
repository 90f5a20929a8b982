"""One runner per experiment folder."""

from __future__ import annotations

import fcntl
import logging
import os
import socket
import time
from pathlib import Path
from types import TracebackType


class RunLock:
    """An exclusive lock on an experiment folder, held while a pipeline runs in it.

    The kernel releases it when the process ends, however it ends, so there is no stale lock
    to clean up; the file's text only serves messages.

    Raises:
        ValueError: (on entering) another process holds the lock.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / "pipeline.lock"
        self._descriptor: int | None = None

    def __enter__(self) -> RunLock:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        # Not inheritable: a child that outlives us must not keep the lock.
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        holder = os.read(descriptor, 200).decode(errors="replace").strip()
        try:
            _lock(descriptor)
        except OSError as error:
            os.close(descriptor)
            raise ValueError(
                f"{self.path.parent}: another pipeline is running here ({holder}); wait for it, "
                "stop it, or use another --tag"
            ) from error
        if holder:
            logging.info("%s: a former runner (%s) ended without notice", self.path.parent, holder)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"pid {os.getpid()} on {socket.gethostname()}\n".encode(), 0)
        self._descriptor = descriptor
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._descriptor is not None
        os.ftruncate(self._descriptor, 0)
        os.close(self._descriptor)
        self._descriptor = None


def _lock(descriptor: int) -> None:
    """Take the lock; `is_locked` of another process holds it for a moment."""
    for _ in range(20):
        try:
            return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            time.sleep(0.02)
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def is_locked(folder: Path) -> bool:
    """Whether a pipeline is running in ``folder`` now."""
    path = folder / "pipeline.lock"
    if not path.exists():
        return False
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False
