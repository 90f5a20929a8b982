"""Downloads from a server on the loopback interface that misbehaves in the usual ways."""

from __future__ import annotations

import email.utils
import hashlib
import io
import shutil
import tarfile
import threading
import time
import traceback
from collections import namedtuple
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from espnet_plugin.corpora.download import download, public_address, unpack
from tests.disk_faults import full_disk

BODY = bytes(range(256)) * 400
NEW_BODY = BODY[::-1]
FIRST = "Mon, 01 Jan 2024 00:00:00 GMT"
SECOND = "Mon, 01 Jan 2024 00:00:01 GMT"


class Handler(BaseHTTPRequestHandler):
    """Serves `body`; the server's attributes say how badly."""

    server: Server

    def do_GET(self) -> None:
        self.server.ranges.append(self.headers.get("Range"))
        self.server.conditions.append(self.headers.get("If-Range"))
        body, version = self.server.body, self.server.version
        if self.server.statuses:
            self.send_error(self.server.statuses.pop(0))
            return
        start = 0
        condition = self.headers.get("If-Range") if self.server.compares else None
        same = condition is None or condition in version.values()
        if self.server.resumes and same and self.headers.get("Range"):
            start = int(self.headers["Range"].removeprefix("bytes=").removesuffix("-"))
        if start >= len(body):
            self.send_response(416)
            if self.server.says_length:
                self.send_header("Content-Range", f"bytes */{len(body)}")
            self.end_headers()
            return
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        self.send_header("Content-Length", str(len(body) - start))
        for name, value in version.items():
            self.send_header(name, value)
        self.end_headers()
        stop = start + self.server.cuts.pop(0) if self.server.cuts else len(body)
        if self.server.changes:  # after this answer
            self.server.body, self.server.version = self.server.changes.pop(0)
        self.wfile.write(body[start:stop])  # a cut body breaks the announced length

    def log_message(self, format: str, *args: object) -> None:
        """Keep the test's output clean."""


class Server(ThreadingHTTPServer):
    """A server whose answers a test can spoil."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.ranges: list[str | None] = []
        self.statuses: list[int] = []
        self.cuts: list[int] = []
        self.resumes = True
        self.conditions: list[str | None] = []
        self.body = BODY
        self.version = {"ETag": '"1"'}
        self.changes: list[tuple[bytes, dict[str, str]]] = []
        self.compares = True  # knows If-Range
        self.says_length = True  # where nothing is left to send

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/an4.tar.gz"


def kill(server: Server, target: Path) -> None:
    """What a run leaves that is killed after byte 777."""
    server.cuts = [777]
    with pytest.raises(OSError, match="brought nothing"):
        download(server.url, target, tries=0, wait=0)


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def test_broken_connections_are_resumed_where_they_broke(server: Server, tmp_path: Path) -> None:
    server.cuts = [1000, 5000]
    target = download(server.url, tmp_path / "a.tar.gz", wait=0)
    assert target.read_bytes() == BODY
    assert server.ranges == [None, "bytes=1000-", "bytes=6000-"]
    assert not (tmp_path / "a.tar.gz.partial").exists()


def test_partial_file_of_a_killed_run_is_continued(server: Server, tmp_path: Path) -> None:
    kill(server, tmp_path / "a")
    assert download(server.url, tmp_path / "a", wait=0).read_bytes() == BODY
    assert server.ranges == [None, "bytes=777-"]
    assert server.conditions == [None, '"1"']
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "a.sha256"]


@pytest.mark.parametrize("compares", [True, False])
@pytest.mark.parametrize(
    ("old", "new"),
    [
        ({"ETag": '"1"', "Last-Modified": FIRST}, {"ETag": '"2"', "Last-Modified": FIRST}),
        ({"ETag": 'W/"1"', "Last-Modified": FIRST}, {"ETag": 'W/"1"', "Last-Modified": SECOND}),
    ],
)
def test_a_file_that_changed_meanwhile_is_not_spliced(
    server: Server, tmp_path: Path, old: dict[str, str], new: dict[str, str], compares: bool
) -> None:
    server.version, server.compares = old, compares
    kill(server, tmp_path / "a")
    server.body, server.version = NEW_BODY, new
    assert download(server.url, tmp_path / "a", wait=0).read_bytes() == NEW_BODY
    server.version, server.body, server.cuts = old, BODY, [888]
    server.changes = [(NEW_BODY, new)]  # within one run
    assert download(server.url, tmp_path / "b", wait=0).read_bytes() == NEW_BODY


@pytest.mark.parametrize("version", [{}, {"ETag": 'W/"1"'}, {"Last-Modified": "now"}])
def test_without_a_version_only_a_checksum_allows_to_go_on(
    server: Server, tmp_path: Path, version: dict[str, str]
) -> None:
    server.version = version
    kill(server, tmp_path / "a")
    server.body = NEW_BODY
    assert download(server.url, tmp_path / "a", wait=0).read_bytes() == NEW_BODY
    assert server.ranges == [None, None]
    kill(server, tmp_path / "b")
    good = hashlib.sha256(NEW_BODY).hexdigest()
    assert download(server.url, tmp_path / "b", sha256=good, wait=0).read_bytes() == NEW_BODY
    assert server.ranges[2:] == [None, "bytes=777-"]


def test_a_file_changed_within_its_last_second_has_no_version(
    server: Server, tmp_path: Path
) -> None:
    server.version = {"Last-Modified": email.utils.formatdate(time.time() + 9, usegmt=True)}
    kill(server, tmp_path / "a")
    assert [path.name for path in tmp_path.iterdir()] == ["a.partial"]


def test_another_mirror_continues_only_under_a_checksum(server: Server, tmp_path: Path) -> None:
    """The same ETag there may mean another file, and another one the same file."""
    good = hashlib.sha256(BODY).hexdigest()
    kill(server, tmp_path / "a")
    download(server.url + "?mirror", tmp_path / "a", wait=0)
    assert server.ranges == [None, None]
    kill(server, tmp_path / "b")
    download(server.url + "?mirror", tmp_path / "b", sha256=good, wait=0)
    assert (server.ranges[2:], server.conditions[2:]) == ([None, "bytes=777-"], [None, None])


def test_server_that_cannot_resume_sends_everything_again(server: Server, tmp_path: Path) -> None:
    server.resumes, server.cuts = False, [1000]  # it answers 200
    assert download(server.url, tmp_path / "a", wait=0).read_bytes() == BODY
    assert server.ranges == [None, "bytes=1000-"]


def test_partial_file_longer_than_the_servers_is_dropped(server: Server, tmp_path: Path) -> None:
    (tmp_path / "a.partial").write_bytes(b"x" * (len(BODY) + 5))
    good = hashlib.sha256(BODY).hexdigest()
    assert download(server.url, tmp_path / "a", sha256=good, wait=0).read_bytes() == BODY
    assert server.ranges == [f"bytes={len(BODY) + 5}-", None]


def test_a_whole_partial_file_is_verified_and_not_fetched_again(
    server: Server, tmp_path: Path
) -> None:
    good = hashlib.sha256(BODY).hexdigest()
    (tmp_path / "a.partial").write_bytes(BODY)
    assert download(server.url, tmp_path / "a", sha256=good, wait=0).read_bytes() == BODY
    assert server.ranges == [f"bytes={len(BODY)}-"]
    (tmp_path / "b.partial").write_bytes(NEW_BODY)  # as long, and still wrong
    with pytest.raises(ValueError, match="expected"):
        download(server.url, tmp_path / "b", sha256=good, wait=0)
    assert not list(tmp_path.glob("b*"))
    server.says_length, server.ranges = False, []
    (tmp_path / "c.partial").write_bytes(BODY)
    assert download(server.url, tmp_path / "c", sha256=good, wait=0).read_bytes() == BODY
    assert server.ranges == [f"bytes={len(BODY)}-", None]


def test_finished_download_is_not_fetched_again(server: Server, tmp_path: Path) -> None:
    for _ in range(2):
        download(server.url, tmp_path / "a", wait=0)
    assert len(server.ranges) == 1
    (tmp_path / "a").write_bytes(b"spoiled")
    assert download(server.url, tmp_path / "a", wait=0).read_bytes() == BODY
    assert len(server.ranges) == 2


def test_file_put_there_by_hand_is_accepted(server: Server, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(BODY)
    download(server.url, tmp_path / "a")
    assert server.ranges == []


def test_given_checksum_is_enforced(server: Server, tmp_path: Path) -> None:
    good = hashlib.sha256(BODY).hexdigest()
    download(server.url, tmp_path / "good", sha256=good, wait=0)
    with pytest.raises(ValueError, match=f"checksum {good}, expected 00"):
        download(server.url, tmp_path / "bad", sha256="00", wait=0)
    assert not list(tmp_path.glob("bad*"))


def test_md5_is_enforced_and_remembered(server: Server, tmp_path: Path) -> None:
    good = hashlib.md5(BODY).hexdigest()
    for _ in range(2):
        download(server.url, tmp_path / "a", md5=good, wait=0)
    assert len(server.ranges) == 1
    with pytest.raises(ValueError, match=f"checksum {good}, expected 00"):
        download(server.url, tmp_path / "bad", md5="00", wait=0)
    # what came without a checksum is held to one that is given later
    download(server.url, tmp_path / "b", wait=0)
    (tmp_path / "b").write_bytes(b"other")
    (tmp_path / "b.sha256").write_text(hashlib.sha256(b"other").hexdigest() + "  b\n")
    assert download(server.url, tmp_path / "b", md5=good, wait=0).read_bytes() == BODY


def test_mirrors_are_tried_in_turn(server: Server, tmp_path: Path) -> None:
    server.statuses = [404]
    urls = [server.url + "?key=first", server.url.replace("an4", "second") + "?key=other"]
    assert download(urls, tmp_path / "a", wait=0).read_bytes() == BODY
    server.statuses = [404, 403]
    with pytest.raises(OSError, match=r"second\.tar\.gz\?\.\.\.: the server answered .*403"):
        download(urls, tmp_path / "b", wait=0)
    assert len(server.ranges) == 4


def test_secrets_of_an_address_are_not_shown(
    server: Server, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    url, shown = f"{server.url}?X-Signature=SECRET", f"{server.url}?..."
    download(url, tmp_path / "a", wait=0)
    messages = [caplog.text]
    server.statuses, server.cuts = [503, 503, 403], [1, 2]
    for place in (url, url, url + " ", url):
        with pytest.raises((OSError, ValueError)) as caught:
            download(place, tmp_path / "b", sha256="00", tries=2, wait=0)
        messages.append("".join(traceback.format_exception(caught.value)))
    messages.append(caplog.text)
    assert all("SECRET" not in text for text in messages)
    assert all(shown in text for text in messages)
    assert public_address("https://me:SECRET@host:1/p.zip#x") == "https://host:1/p.zip"


def test_a_full_disk_is_seen_before_the_first_byte(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(2e9, 1e9, 1e9))
    with pytest.raises(
        ValueError, match=r"download of a needs 3\.00 GB, and only 1\.00 GB are free"
    ):
        download(server.url, tmp_path / "a", size=3 * 10**9)
    assert server.ranges == []
    (tmp_path / "a.partial").write_bytes(BODY[:100])
    download(server.url, tmp_path / "a", size=10**9, wait=0)


def test_server_errors_are_retried_and_refusals_are_not(server: Server, tmp_path: Path) -> None:
    server.statuses = [503, 500]
    assert download(server.url, tmp_path / "a", wait=0).read_bytes() == BODY
    server.statuses = [404, 404]
    with pytest.raises(OSError, match="404"):
        download(server.url, tmp_path / "b", wait=0)
    assert len(server.statuses) == 1


def test_gives_up_and_says_what_to_do(server: Server, tmp_path: Path) -> None:
    server.statuses = [503] * 9
    with pytest.raises(OSError, match=r"3 attempts brought nothing .* by hand into \S*a\.tar\.gz"):
        download(server.url, tmp_path / "a.tar.gz", tries=3, wait=0)
    assert len(server.statuses) == 6


def make_archive(path: Path, text: str) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        member = tarfile.TarInfo("an4/README")
        member.size = len(text)
        tar.addfile(member, io.BytesIO(text.encode()))
    return path


def test_unpack_once_and_again_when_the_archive_changed(tmp_path: Path) -> None:
    archive = make_archive(tmp_path / "a.tar.gz", "one")
    readme = unpack(archive, tmp_path / "out") / "an4" / "README"
    readme.write_text("touched")
    unpack(archive, tmp_path / "out")
    assert readme.read_text() == "touched"
    make_archive(archive, "two")
    unpack(archive, tmp_path / "out")
    assert readme.read_text() == "two"


def test_unpack_names_a_damaged_archive(tmp_path: Path) -> None:
    archive = make_archive(tmp_path / "a.tar.gz", "one" * 9999)
    archive.write_bytes(archive.read_bytes()[:-20])
    with pytest.raises(ValueError, match=r"a\.tar\.gz: cannot be unpacked"):
        unpack(archive, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_full_disk_is_not_the_archives_fault(tmp_path: Path) -> None:
    archive = make_archive(tmp_path / "a.tar.gz", "one" * 99999)
    with full_disk(1000), pytest.raises(OSError, match="File too large"):
        unpack(archive, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["a.tar.gz"]
    assert (unpack(archive, tmp_path / "out") / "an4/README").exists()
