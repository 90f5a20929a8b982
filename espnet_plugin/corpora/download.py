"""Fetch a corpus archive: resumed after a broken connection, verified, unpacked in one step."""

from __future__ import annotations

import gzip
import hashlib
import http.client
import logging
import os
import shutil
import tarfile
import time
import urllib.error
import urllib.request
import zlib
from collections.abc import Sequence
from pathlib import Path

from espnet_plugin.corpora.disk_space import require_space

_CHUNK = 1 << 20
_TIMEOUT = 60.0  # seconds without a byte
_SAY_EVERY = 30.0  # seconds


def sha256_of(path: Path) -> str:
    """Return the SHA-256 checksum of a file in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def md5_of(path: Path) -> str:
    """Return the MD5 checksum of a file in hexadecimal; many corpora publish only that."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def download(
    url: str | Sequence[str],
    target: Path,
    *,
    sha256: str | None = None,
    md5: str | None = None,
    size: int | None = None,
    tries: int = 5,
    wait: float = 2.0,
) -> Path:
    """Fetch `url` into `target`, which exists only once it is complete and verified.

    The bytes collect in ``<target>.partial``; a broken connection, or a killed run, continues where
    that file ends. The checksum is recorded in ``<target>.sha256``, and a target that still
    matches it, or was put there by hand, is not fetched again. The record is of what came, and
    proves no origin; only a given `sha256` or `md5` does.

    Args:
        url: an http, https or file address; or mirrors, tried in this order.
        target: the file to make.
        sha256, md5: expected checksums, if they are known.
        size: bytes to come, if that is known; so much disk space must be free before it begins.
        tries: attempts that bring no byte before giving up an address.
        wait: seconds between attempts.

    Raises:
        ValueError: the checksum differs from the expected one, or the disk is too full.
        OSError: no address can be reached, or all refuse.
    """
    if _already_there(target, sha256, md5):
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(target.name + ".partial")
    if size is not None:
        there = partial.stat().st_size if partial.exists() else 0
        require_space(target.parent, size - there, f"download of {target.name}")
    mirrors = [url] if isinstance(url, str) else list(url)
    for mirror in mirrors:
        try:
            _fetch(mirror, partial, tries, wait)
            _verify(mirror, partial, sha256, md5)
            break
        except (OSError, ValueError) as error:
            if mirror == mirrors[-1]:
                raise
            logging.warning("%s; trying the next mirror", error)
    _record(target).write_text(_record_line(partial, target, md5))
    os.replace(partial, target)
    return target


def _record(target: Path) -> Path:
    return target.with_name(target.name + ".sha256")


def _record_line(path: Path, target: Path, md5: str | None) -> str:
    """A line that ``sha256sum --check`` reads; the MD5 that was checked stands behind it."""
    return f"{sha256_of(path)}  {target.name}\n" + (f"# MD5 {md5}\n" if md5 else "")


def _already_there(target: Path, sha256: str | None, md5: str | None) -> bool:
    """Whether `target` is what is wanted; one that is not is removed."""
    if not target.is_file():
        return False
    record = _record(target)
    recorded = record.read_text().split() if record.is_file() else []
    found = sha256_of(target)
    right = found == (sha256 or (recorded[0] if recorded else found))
    if right and md5 is not None and recorded[-1:] != [md5]:
        right = md5_of(target) == md5  # its record knows nothing of this checksum yet
    if right:
        record.write_text(_record_line(target, target, md5))
        return True
    logging.warning("%s: does not match its checksum, fetching it again", target)
    target.unlink()
    return False


def _verify(url: str, partial: Path, sha256: str | None, md5: str | None) -> None:
    for expected, compute in ((sha256, sha256_of), (md5, md5_of)):
        if expected is not None and (found := compute(partial)) != expected:
            partial.unlink()
            raise ValueError(
                f"{url}: checksum {found}, expected {expected}; the download was removed"
            )


def _fetch(url: str, partial: Path, tries: int, wait: float) -> None:
    """Append to `partial` until it is whole; only attempts without progress count as failed."""
    failures = 0
    while True:
        before = partial.stat().st_size if partial.exists() else 0
        try:
            if _append(url, partial):
                return
            error: Exception = ConnectionError("the connection closed early")
        except urllib.error.HTTPError as http_error:
            if http_error.code == 416:  # nothing left to send: the file is whole, or not ours
                partial.unlink()
            elif http_error.code < 500:
                raise OSError(f"{url}: the server answered {http_error}") from http_error
            error = http_error
        except (OSError, http.client.HTTPException) as network_error:
            error = network_error
        after = partial.stat().st_size if partial.exists() else 0
        failures = 0 if after > before else failures + 1
        if failures >= tries:
            raise OSError(
                f"{url}: {tries} attempts brought nothing ({error}); fetch it by hand into "
                f"{partial.with_suffix('')}, or unpack it and give its folder"
            ) from error
        logging.warning("%s: %s; going on from byte %d", url, error, after)
        time.sleep(wait)


def _append(url: str, partial: Path) -> bool:
    """Fetch from the end of `partial` on; True if the server's whole file is there now."""
    start = partial.stat().st_size if partial.exists() else 0
    request = urllib.request.Request(url)
    if start:
        request.add_header("Range", f"bytes={start}-")
    with urllib.request.urlopen(request, timeout=_TIMEOUT) as response:
        span = response.headers.get("Content-Range", "")
        resumed = start > 0 and response.status == 206 and span.startswith(f"bytes {start}-")
        if not resumed:
            start = 0  # the server does not resume: it sends everything
        announced = response.headers.get("Content-Length")
        total = start + int(announced) if announced is not None else None
        with partial.open("ab" if resumed else "wb") as file:
            say = _Progress(url, start, total)
            while chunk := response.read1(_CHUNK):
                file.write(chunk)
                start += len(chunk)
                say(start)
    logging.info("%s: %d of %s bytes", url, start, "unknown" if total is None else total)
    return total is None or start >= total


class _Progress:
    """Log, from time to time, how much of a download is there and when it will be done."""

    def __init__(self, url: str, start: int, total: int | None) -> None:
        self._url, self._start, self._total = url, start, total
        self._began = self._said = time.monotonic()

    def __call__(self, done: int) -> None:
        now = time.monotonic()
        if self._total is None or now - self._said < _SAY_EVERY:
            return
        self._said = now
        left = (self._total - done) * (now - self._began) / max(done - self._start, 1)
        share = 100 * done / self._total
        logging.info("%s: %.1f %%, %.0f min to go", self._url, share, left / 60)


def _read_to_the_end(archive: Path) -> None:
    """Read a gzip file through its closing checksum, which tarfile stops short of."""
    with archive.open("rb") as file:
        if file.read(2) != b"\x1f\x8b":
            return
    with gzip.open(archive) as stream:
        while stream.read(_CHUNK):
            pass


def unpack(archive: Path, directory: Path) -> Path:
    """Unpack a tar archive into `directory`, once; a killed run leaves nothing that looks done.

    Raises:
        ValueError: the archive is damaged or incomplete.
    """
    stamp = directory / ".unpacked_from"
    identity = f"{archive.name} {sha256_of(archive)}\n"
    if stamp.is_file() and stamp.read_text() == identity:
        return directory
    partial = directory.with_name(directory.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        _read_to_the_end(archive)
        with tarfile.open(archive) as tar:
            tar.extractall(partial, filter="data")
    except (tarfile.TarError, EOFError, zlib.error, OSError) as error:
        shutil.rmtree(partial, ignore_errors=True)
        raise ValueError(
            f"{archive}: cannot be unpacked ({error}); remove it and fetch it again"
        ) from error
    (partial / stamp.name).write_text(identity)
    shutil.rmtree(directory, ignore_errors=True)
    os.replace(partial, directory)
    return directory
