"""What a disk, or its owner, may do to a running program, as one message with a remedy."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

#: Everything that a step has finished is on disk, and its command goes on from there.
AGAIN = "then give the same command again: what was finished stays"
_ROOM = f"free some space there, {AGAIN}"
_RIGHTS = "change its owner or mode, or give another folder"
#: What to do about an error of the operating system.
REMEDIES = {
    errno.ENOSPC: f"the disk is full; {_ROOM}",
    errno.EDQUOT: f"your quota is used up; {_ROOM}",
    errno.EFBIG: f"no file may be so large here; raise `ulimit -f` or take another disk, {AGAIN}",
    errno.EROFS: "the disk is mounted read-only; mount it for writing, or give another folder",
    errno.EACCES: f"permission denied; {_RIGHTS}",
    errno.EPERM: f"operation not permitted; {_RIGHTS}",
    errno.ENAMETOOLONG: "the name is too long for this disk (often 255 bytes); take shorter names "
    "of folders or utterances",
    errno.EIO: f"the disk reports an error; look at it (dmesg, smartctl) or take another, {AGAIN}",
    errno.ESTALE: f"the network's disk has lost this file; mount it again, {AGAIN}",
    errno.EMFILE: f"too many open files; `ulimit -n 4096`, {AGAIN}",
    errno.ENFILE: f"too many open files on this machine; end other programs, {AGAIN}",
}

#: What ``torch.save`` says when it cannot write on.
_WRITE_FAILED = ("PytorchStreamWriter", "unexpected pos", "iostream error")


def explain(error: OSError) -> str | None:
    """One message with file and remedy; None for what is not the disk's or its owner's doing."""
    remedy = REMEDIES.get(error.errno or 0)
    if remedy is None:
        return None
    path = error.filename2 or error.filename
    return remedy if path is None else f"{path}: {remedy}"


def remedy_of(complaint: str) -> str | None:
    """The remedy for an error that another program has told, as in ``No space left on device``."""
    found = [code for code in REMEDIES if os.strerror(code) in complaint]
    # "Too many open files in system" has "Too many open files" in it
    return REMEDIES[max(found, key=lambda code: len(os.strerror(code)))] if found else None


@contextlib.contextmanager
def saving(folder: Path) -> Iterator[None]:
    """Around ``torch.save``, whose errors say nothing of a full disk.

    Raises:
        OSError: the operating system's reason why nothing can be written into ``folder``.
    """
    try:
        yield
    except RuntimeError as error:
        text = str(error)
        if any(sign in text for sign in _WRITE_FAILED):
            raise _reason(folder) from error
        raise


def _reason(folder: Path) -> OSError:
    """Found by trying: a megabyte is less than any checkpoint."""
    trial = folder / f".trial.{os.getpid()}"
    try:
        with trial.open("wb") as stream:
            stream.write(bytes(1 << 20))
            os.fsync(stream.fileno())
    except OSError as error:
        return OSError(error.errno, error.strerror, str(folder))
    finally:
        trial.unlink(missing_ok=True)
    return OSError(errno.EIO, os.strerror(errno.EIO), str(folder))


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """Errors of writing name no file by themselves; inside here they name this one."""
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno is not None:
            error.filename = str(path)
        raise
