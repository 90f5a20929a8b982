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
from pathlib import Path

_CHUNK = 1 << 20
_TIMEOUT = 60.0  # seconds without a byte


def sha256_of(path: Path) -> str:
    """Return the SHA-256 checksum of a file in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def download(
    url: str, target: Path, *, sha256: str | None = None, tries: int = 5, wait: float = 2.0
) -> Path:
    """Fetch `url` into `target`, which exists only once it is complete and verified.

    The bytes collect in ``<target>.partial``; a broken connection, or a killed run, continues where
    that file ends. The checksum is recorded in ``<target>.sha256``, and a target that still
    matches it, or was put there by hand, is not fetched again. The record is of what came, and
    proves no origin; only a given `sha256` does.

    Args:
        url: an http, https or file address.
        target: the file to make.
        sha256: expected checksum, if it is known.
        tries: attempts that bring no byte before giving up.
        wait: seconds between attempts.

    Raises:
        ValueError: the checksum differs from `sha256`.
        OSError: the address cannot be reached, or refuses.
    """
    record = target.with_name(target.name + ".sha256")
    if target.is_file():
        found = sha256_of(target)
        recorded = record.read_text().split()[0] if record.is_file() else found
        if found == (sha256 or recorded):
            record.write_text(f"{found}  {target.name}\n")
            return target
        logging.warning("%s: does not match its checksum, fetching it again", target)
        target.unlink()
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(target.name + ".partial")
    _fetch(url, partial, tries, wait)
    found = sha256_of(partial)
    if sha256 is not None and found != sha256:
        partial.unlink()
        raise ValueError(f"{url}: checksum {found}, expected {sha256}; the download was removed")
    record.write_text(f"{found}  {target.name}\n")
    os.replace(partial, target)
    return target


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
            while chunk := response.read1(_CHUNK):
                file.write(chunk)
                start += len(chunk)
    logging.info("%s: %d of %s bytes", url, start, "unknown" if total is None else total)
    return total is None or start >= total


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
