"""Fetch a corpus archive: resumed after a broken connection, verified, unpacked in one step."""

from __future__ import annotations

import email.message
import email.utils
import gzip
import hashlib
import http.client
import logging
import os
import shutil
import tarfile
import time
import urllib.error
import urllib.parse
import urllib.request
import zlib
from collections.abc import Sequence
from pathlib import Path

from espnet_plugin.corpora.atomic import write_atomically
from espnet_plugin.corpora.disk_space import gigabytes, require_space
from espnet_plugin.corpora.faults import explain

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
    largest: int | None = None,
    tries: int = 5,
    wait: float = 2.0,
) -> Path:
    """Fetch `url` into `target`, which exists only once it is complete and verified.

    The bytes collect in ``<target>.partial``; a broken connection, or a killed run, continues where
    that file ends, if the server's file is still the same one by its ETag or Last-Modified, which
    ``<target>.partial.version`` keeps, or if a given checksum will tell. The checksum is recorded
    in ``<target>.sha256``, and a target that still matches it, or was put there by hand, is not
    fetched again. The record is of what came, and proves no origin; only a given `sha256` or `md5`
    does.

    Args:
        url: an http, https or file address; or mirrors, tried in this order.
        target: the file to make.
        sha256, md5: expected checksums, if they are known.
        size: bytes to come, if that is known; so much disk space must be free before it begins.
        largest: bytes that are taken at most, from an address that nobody vouches for.
        tries: attempts that bring no byte before giving up an address.
        wait: seconds between attempts.

    Raises:
        ValueError: the checksum differs from the expected one, it is larger than `largest`, or the
            disk is too full.
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
            _fetch(mirror, partial, tries, wait, checked=bool(sha256 or md5), largest=largest)
            _verify(mirror, partial, sha256, md5)
            break
        except (OSError, ValueError) as error:
            if mirror == mirrors[-1]:
                raise
            logging.warning("%s; trying the next mirror", error)
    _record(target).write_text(_record_line(partial, target, md5))
    os.replace(partial, target)
    _version(partial).unlink(missing_ok=True)
    return target


def discard(target: Path) -> None:
    """Remove a download that turned out to be useless, so that it is fetched anew."""
    target.unlink(missing_ok=True)
    _record(target).unlink(missing_ok=True)


def public_address(url: str) -> str:
    """An address as it may be shown: its query, user and password may be secrets."""
    parts = urllib.parse.urlsplit(url)
    place = parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()
    return place + ("?..." if parts.query else "")


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
            _drop(partial)
            raise ValueError(
                f"{public_address(url)}: checksum {found}, expected {expected}; "
                "the download was removed"
            )


def _version(partial: Path) -> Path:
    """The file that tells which version of which address's file the partial one was begun with."""
    return partial.with_name(partial.name + ".version")


def _drop(partial: Path) -> None:
    _version(partial).unlink(missing_ok=True)
    partial.unlink(missing_ok=True)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _fetch(
    url: str, partial: Path, tries: int, wait: float, checked: bool, largest: int | None = None
) -> None:
    """Append to `partial` until it is whole; only attempts without progress count as failed.

    Args:
        url, partial, tries, wait: see `download`.
        checked: a checksum will tell whether the pieces belong together.
        largest: see `download`.

    Raises:
        ValueError: more comes than that, or than fits on the disk.
        OSError: the address cannot be reached, or refuses.
    """
    failures, shown = 0, public_address(url)
    while True:
        before = _size(partial)
        try:
            if _append(url, partial, checked, largest):
                return
            error: Exception = ConnectionError("the connection closed early")
        except urllib.error.HTTPError as http_error:
            http_error.close()
            if http_error.code == 416:  # nothing left to send: the file is whole, or not ours
                length = http_error.headers.get("Content-Range", "").strip()
                if before and length == f"bytes */{before}":
                    return  # a run was killed before it verified the file
                _drop(partial)
            elif http_error.code < 500:
                raise OSError(f"{shown}: the server answered {http_error}") from http_error
            error = http_error
        except http.client.InvalidURL:  # its text holds the whole address, as its traceback does
            raise OSError(f"{shown}: no address: blanks or control characters in it") from None
        except (OSError, http.client.HTTPException) as network_error:
            error = network_error
        after = _size(partial)
        failures = 0 if after > before else failures + 1
        if failures >= tries:
            raise OSError(
                f"{shown}: {tries} attempts brought nothing ({error}); fetch it by hand into "
                f"{partial.with_suffix('')}, or unpack it and give its folder"
            ) from error
        logging.warning("%s: %s; going on from byte %d", shown, error, after)
        time.sleep(wait)


def _append(url: str, partial: Path, checked: bool, largest: int | None) -> bool:
    """Fetch from the end of `partial` on; True if the server's whole file is there now."""
    version = _read_version(url, partial)
    start = _size(partial) if version or checked else 0
    request = urllib.request.Request(url)
    if start:
        request.add_header("Range", f"bytes={start}-")
        if version:
            request.add_header("If-Range", version)
    with urllib.request.urlopen(request, timeout=_TIMEOUT) as response:
        resumed = start > 0 and response.status == 206
        if resumed and not _continues(response.headers, start, version):
            _drop(partial)
            return False
        if not resumed:
            start = 0  # the server does not resume, or has another file now: it sends everything
        announced = response.headers.get("Content-Length")
        total = start + int(announced) if announced is not None else None
        _check_size(url, partial, total or start, largest)
        if total is not None:
            require_space(partial.parent, total - start, f"download of {public_address(url)}")
        if not (resumed and version):  # bytes of several answers that nobody compared
            _version(partial).unlink(missing_ok=True)
        with partial.open("ab" if resumed else "wb") as file:
            if not resumed:
                _write_version(url, partial, response.headers)
            say = _Progress(public_address(url), start, total)
            while chunk := response.read1(_CHUNK):
                file.write(chunk)
                start += len(chunk)
                _check_size(url, partial, start, largest)
                say(start)
    of = "unknown" if total is None else total
    logging.info("%s: %d of %s bytes", public_address(url), start, of)
    return total is None or start >= total


def _check_size(url: str, partial: Path, size: int, largest: int | None) -> None:
    if largest is not None and size > largest:
        _drop(partial)
        raise ValueError(
            f"{public_address(url)}: refused: it has more than {gigabytes(largest)}, which is the "
            "most that is taken"
        )


def _continues(headers: email.message.Message, start: int, version: str | None) -> bool:
    """Whether an answer says that it is what follows byte `start`, and of no other version."""
    if not headers.get("Content-Range", "").startswith(f"bytes {start}-"):
        return False
    if version is None:
        return True
    # some servers do not know If-Range, and send a part of what is there now
    now = headers.get("ETag" if version.startswith('"') else "Last-Modified")
    return now is None or now == version


def _validator(headers: email.message.Message) -> str | None:
    """What If-Range may name: a strong ETag, else a Last-Modified at least a second old.

    A file that changes twice within a second keeps its Last-Modified (RFC 9110, 8.8.2.2).
    """
    etag: str | None = headers.get("ETag")
    if etag and etag.startswith('"'):
        return etag
    modified, date = headers.get("Last-Modified"), headers.get("Date")
    try:
        changed, sent = map(email.utils.parsedate_to_datetime, (modified or "", date or ""))
        return modified if (sent - changed).total_seconds() >= 1 else None
    except (ValueError, TypeError):  # one is missing, or no date
        return None


def _address_mark(url: str) -> str:
    # a version says nothing of other addresses' files; the address itself may hold a password
    return hashlib.sha256(url.encode()).hexdigest()


def _write_version(url: str, partial: Path, headers: email.message.Message) -> None:
    version = _validator(headers)
    if version:
        write_atomically(_version(partial), f"{_address_mark(url)} {version}\n")


def _read_version(url: str, partial: Path) -> str | None:
    path = _version(partial)
    if not path.is_file():
        return None
    mark, _, version = path.read_text(encoding="utf-8").strip().partition(" ")
    return version if version and mark == _address_mark(url) else None


class _Progress:
    """Log, from time to time, how much of a download is there and when it will be done."""

    def __init__(self, place: str, start: int, total: int | None) -> None:
        self._place, self._start, self._total = place, start, total
        self._began = self._said = time.monotonic()

    def __call__(self, done: int) -> None:
        now = time.monotonic()
        if self._total is None or now - self._said < _SAY_EVERY:
            return
        self._said = now
        left = (self._total - done) * (now - self._began) / max(done - self._start, 1)
        share = 100 * done / self._total
        logging.info("%s: %.1f %%, %.0f min to go", self._place, share, left / 60)


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
        if isinstance(error, OSError) and explain(error):  # a full disk is not the archive's fault
            raise
        raise ValueError(
            f"{archive}: cannot be unpacked ({error}); remove it and fetch it again"
        ) from error
    (partial / stamp.name).write_text(identity)
    shutil.rmtree(directory, ignore_errors=True)
    os.replace(partial, directory)
    return directory
