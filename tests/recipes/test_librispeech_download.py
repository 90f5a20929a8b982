"""Downloading LibriSpeech from a server on the loopback interface: whole, broken, wrong."""

from __future__ import annotations

import hashlib
import importlib.util
import io
import shutil
import sys
import tarfile
import threading
from collections import namedtuple
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

soundfile = pytest.importorskip("soundfile")

REPO = Path(__file__).resolve().parents[2]
LOCAL = REPO / "egs2" / "librispeech" / "asr1" / "local"
MODULES = ("acquire", "language", "openslr", "parts")
READERS = {
    "train-clean-100": "103",
    "dev-clean": "1272",
    "dev-other": "116",
    "test-clean": "1089",
    "test-other": "1688",
}
SPEAKERS = "".join(f"{reader} | F | {part} | 8 | Name\n" for part, reader in READERS.items())


def archive_of(part: str) -> bytes:
    """A part's archive as OpenSLR makes it: LibriSpeech/ with documents and the part."""
    reader = READERS[part]
    audio = io.BytesIO()
    tone = np.sin(np.arange(1600) / 9) * 0.3
    soundfile.write(audio, tone, 16000, subtype="PCM_16", format="FLAC")
    members = {
        "SPEAKERS.TXT": SPEAKERS.encode(),
        "README.TXT": b"read me",
        f"{part}/{reader}/7/{reader}-7.trans.txt": f"{reader}-7-0000 A WORD\n".encode(),
        f"{part}/{reader}/7/{reader}-7-0000.flac": audio.getvalue(),
    }
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, content in members.items():
            member = tarfile.TarInfo(f"LibriSpeech/{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


class Handler(BaseHTTPRequestHandler):
    """Serves the server's files below /<number>/, and continues where it is asked to."""

    server: Server

    def do_GET(self) -> None:
        self.server.asked.append(self.path.lstrip("/"))
        body = self.server.files.get(self.path.lstrip("/"))
        if body is None:
            self.send_error(404)
            return
        span = self.headers.get("Range", "bytes=0-")
        start = int(span.removeprefix("bytes=").removesuffix("-"))
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        self.send_header("Content-Length", str(len(body) - start))
        self.end_headers()
        cut = self.server.cuts.pop(self.path.lstrip("/"), None)
        self.wfile.write(body[start:cut])

    def log_message(self, format: str, *args: object) -> None:
        """Keep the test's output clean."""


class Server(ThreadingHTTPServer):
    """OpenSLR in small."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files = {f"12/{part}.tar.gz": archive_of(part) for part in READERS}
        self.files["11/librispeech-lexicon.txt"] = b"A AH0\nWORD W ER1 D\n"
        self.asked: list[str] = []
        self.cuts: dict[str, int] = {}  # the connection breaks there, once

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def checksums(self, path: Path) -> Path:
        """The files' checksums as ``md5sum`` writes them."""
        sums = {n.split("/")[1]: hashlib.md5(body).hexdigest() for n, body in self.files.items()}
        path.write_text("".join(f"{md5}  {name}\n" for name, md5 in sums.items()))
        return path


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield running
        running.shutdown()
        thread.join()


@pytest.fixture
def data_py(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    monkeypatch.syspath_prepend(str(LOCAL))
    specification = importlib.util.spec_from_file_location("librispeech_data", LOCAL / "data.py")
    assert specification is not None and specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    monkeypatch.setattr("espnet_plugin.corpora.download.time.sleep", lambda _: None)
    yield module
    for name in MODULES:
        sys.modules.pop(name, None)


class Recipe:
    """The data preparation in a folder of its own, told to download from `server`."""

    def __init__(self, data_py: ModuleType, server: Server, folder: Path) -> None:
        self.data_py, self.folder = data_py, folder
        self.downloads = folder / "downloads"
        self.checksums = server.checksums(folder / "md5sum.txt")
        self.mirrors = [server.url]

    def __call__(self, *options: str) -> int:
        arguments = ["--output", str(self.folder / "data"), "--downloads", str(self.downloads)]
        arguments += ["--mirrors", *self.mirrors, "--train_parts", "100", "--word_lm", "none"]
        arguments += ["--allow_subset", "--nj", "1"]
        if "--checksums" not in options:
            arguments += ["--checksums", str(self.checksums)]
        status: int = self.data_py.main([*arguments, *options])
        return status


@pytest.fixture
def recipe(data_py: ModuleType, server: Server, tmp_path: Path) -> Recipe:
    return Recipe(data_py, server, tmp_path)


def test_everything_is_fetched_unpacked_and_prepared_once(recipe: Recipe, server: Server) -> None:
    assert recipe() == 0
    root = recipe.downloads / "LibriSpeech"
    assert sorted(path.name for path in root.iterdir()) == sorted(
        [*READERS, "README.TXT", "SPEAKERS.TXT"]
    )
    assert (recipe.folder / "data/train_clean_100/text").read_text() == "103-7-0000 A WORD\n"
    assert not list(recipe.downloads.glob("*.unpacked*"))
    asked = len(server.asked)
    assert asked == len(server.files)
    assert recipe() == 0
    assert len(server.asked) == asked


def test_a_broken_connection_goes_on_where_it_broke(recipe: Recipe, server: Server) -> None:
    server.cuts = {"12/train-clean-100.tar.gz": 200, "12/test-other.tar.gz": 1}
    assert recipe() == 0
    assert server.asked.count("12/train-clean-100.tar.gz") == 2
    fetched = (recipe.downloads / "train-clean-100.tar.gz").read_bytes()
    assert fetched == server.files["12/train-clean-100.tar.gz"]


def test_a_killed_download_goes_on(recipe: Recipe, server: Server) -> None:
    recipe.downloads.mkdir()
    whole = server.files["12/dev-other.tar.gz"]
    (recipe.downloads / "dev-other.tar.gz.partial").write_bytes(whole[:300])
    assert recipe() == 0
    assert (recipe.downloads / "dev-other.tar.gz").read_bytes() == whole


def test_a_wrong_checksum_stops_before_anything_is_unpacked(
    recipe: Recipe, server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    good = server.files["12/dev-clean.tar.gz"]
    server.files["12/dev-clean.tar.gz"] = good[:-1] + b"x"
    assert recipe() == 1
    expected = hashlib.md5(good).hexdigest()
    assert f"/12/dev-clean.tar.gz: checksum {hashlib.md5(good[:-1] + b'x').hexdigest()}, " in (
        caplog.text
    )
    assert f"expected {expected}; the download was removed" in caplog.text
    assert not (recipe.downloads / "LibriSpeech").exists()
    assert not list(recipe.downloads.glob("dev-clean*"))
    server.files["12/dev-clean.tar.gz"] = good
    assert recipe() == 0


def test_the_published_checksums_hold_without_other_ones(
    recipe: Recipe, caplog: pytest.LogCaptureFixture
) -> None:
    empty = recipe.folder / "none.txt"
    empty.write_text("")
    assert recipe("--checksums", str(empty)) == 1
    # the SHA-256 of the official lexicon, which ours is not
    assert "expected d722bc29908cd338ae738edd70f61826a6fca29aaa704a9493f0006773f79d71" in (
        caplog.text
    )


def test_the_next_mirror_helps(recipe: Recipe, server: Server) -> None:
    with Server() as poor:
        thread = threading.Thread(target=poor.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        poor.files = dict(server.files)  # gzip notes the second: its own would have other checksums
        del poor.files["12/dev-clean.tar.gz"]
        poor.files["12/test-clean.tar.gz"] = b"spoiled"
        recipe.mirrors = [poor.url, server.url]
        assert recipe() == 0
        poor.shutdown()
        thread.join()
    assert sorted(server.asked) == ["12/dev-clean.tar.gz", "12/test-clean.tar.gz"]


def test_an_archive_put_there_by_hand_is_used(recipe: Recipe, server: Server) -> None:
    recipe.downloads.mkdir()
    body = server.files.pop("12/train-clean-100.tar.gz")
    (recipe.downloads / "train-clean-100.tar.gz").write_bytes(body)
    assert recipe("--remove_archives") == 0
    assert not list(recipe.downloads.glob("*.tar.gz"))


def test_an_archive_under_a_wrong_name(
    recipe: Recipe, server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    server.files["12/dev-clean.tar.gz"] = archive_of("test-other")
    recipe.checksums = server.checksums(recipe.folder / "md5sum.txt")
    assert recipe() == 1
    assert "dev-clean.tar.gz: holds no LibriSpeech/dev-clean; it is another archive" in caplog.text


def test_a_full_disk_is_seen_before_the_first_byte(
    recipe: Recipe,
    server: Server,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**12, 9 * 10**11, 10**11))
    recipe.checksums.write_text("")  # then the official sizes count
    assert recipe("--train_parts", "960") == 1
    # seven archives of 61.36 GB together, as much unpacked, and the lexicon
    assert "downloads: the corpus needs 122.72 GB, and only 100.00 GB are free" in caplog.text
    assert server.asked == []


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "no such file"), ("xyz dev-clean.tar.gz\n", "md5sum.txt:1: not '<md5>  <name>'")],
)
def test_unusable_checksum_files(
    recipe: Recipe, caplog: pytest.LogCaptureFixture, content: str | None, message: str
) -> None:
    recipe.checksums.unlink()
    if content is not None:
        recipe.checksums.write_text(content)
    assert recipe() == 1
    assert message in caplog.text
