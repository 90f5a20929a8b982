"""Upload with the real client against a Hub on the loopback device, and back down again."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub
import pytest
from huggingface_hub import constants

from espnet_plugin.bin.upload import main
from espnet_plugin.publishing.upload import Destination, UploadFailed, transient, upload
from tests.reference.hub_server import HubServer
from tests.unit.publishing.test_card import make_package

TOKEN = "hf_loopbackTokenThatMustNotLeak"
REPO = "tester/tiny"


@pytest.fixture(autouse=True)
def client(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The client as a user has it, but with its own home and without waiting or Xet."""
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "home/token"))
    monkeypatch.setattr(time, "sleep", lambda seconds: None)


@pytest.fixture
def hub() -> Iterator[HubServer]:
    with HubServer(TOKEN) as server:
        yield server


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "model"
    (root / "exp/tag").mkdir(parents=True)
    (root / "README.md").write_text("---\nlicense: cc0-1.0\n---\n\n# tiny\n")
    (root / "meta.yaml").write_text("files: {}\n")
    (root / "empty").write_bytes(b"")
    (root / "exp/tag/valid.loss.ave.pth").write_bytes(bytes(range(256)) * 4000)
    (root / "exp/tag/lm.pth").write_bytes(bytes(range(255, -1, -1)) * 3000)
    return root


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def send(folder: Path, hub: HubServer, **options: object) -> str:
    given = {"tries": 3, "wait": 0.0, "endpoint": hub.url, **options}
    destination = Destination(given.pop("repo", REPO), **given.pop("where", {}))
    return upload(folder, destination, "a model", **given)


def down(hub: HubServer, tmp_path: Path, revision: str | None = None) -> Path:
    return Path(
        huggingface_hub.snapshot_download(
            REPO, revision=revision, endpoint=hub.url, cache_dir=tmp_path / "cache"
        )
    )


@pytest.mark.parametrize("part_size", [None, 200_000])
def test_what_goes_up_comes_down(folder: Path, tmp_path: Path, part_size: int | None) -> None:
    with HubServer(TOKEN, part_size=part_size) as hub:
        address = send(folder, hub)
        commit = hub.repositories[REPO].branches["main"]
        assert address == f"{hub.url}/{REPO}/commit/{commit}"
        assert len(hub.repositories[REPO].commits) == 2  # the Hub's own, and ours: one
        snapshot = down(hub, tmp_path)
        assert {k: v for k, v in contents(snapshot).items() if k != ".gitattributes"} == contents(
            folder
        )


def test_the_token_goes_to_the_hub_only_and_nowhere_else(
    folder: Path, hub: HubServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        send(folder, hub, where={"private": True})
        down(hub, tmp_path)
    assert TOKEN not in caplog.text
    for path in tmp_path.rglob("*"):
        assert path.is_dir() or TOKEN.encode() not in path.read_bytes(), path
    for method, path, headers, body in hub.requests:
        assert TOKEN not in path and TOKEN.encode() not in body
        if method == "PUT" or path.startswith("/cdn/"):  # another host behind the Hub
            assert not any(TOKEN in value for value in headers.values())


def test_a_file_that_holds_the_token_is_refused(folder: Path, hub: HubServer) -> None:
    (folder / "log.txt").write_bytes(b"x" * ((1 << 20) - 10) + TOKEN.encode())
    with pytest.raises(ValueError, match=r"log.txt: holds your Hub token"):
        send(folder, hub)
    assert not hub.requests


def test_a_connection_broken_in_the_middle_is_taken_up_again(
    folder: Path, hub: HubServer, tmp_path: Path
) -> None:
    hub.faults.broken_uploads = 2
    send(folder, hub)
    assert sorted(hub.uploads) == sorted(
        hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.rglob("*.pth")
    )
    assert contents(down(hub, tmp_path))["exp/tag/lm.pth"] == contents(folder)["exp/tag/lm.pth"]


def test_a_second_command_sends_only_what_is_missing(
    folder: Path, hub: HubServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (folder / "exp/tag/lm.pth").unlink()
    send(folder, hub)
    (folder / "exp/tag/lm.pth").write_bytes(b"\0new" * 100_000)
    first = list(hub.uploads)
    hub.faults.broken_uploads = 1000
    with pytest.raises(UploadFailed, match="files that have arrived are not sent again") as failed:
        send(folder, hub, tries=2)
    assert TOKEN not in str(failed.value) + caplog.text
    assert "attempt 2 of 2" in caplog.text
    assert "exp/tag/lm.pth" not in hub.files(REPO)
    hub.faults.broken_uploads = 0
    send(folder, hub)
    assert hub.uploads[len(first) :] == [
        hashlib.sha256((folder / "exp/tag/lm.pth").read_bytes()).hexdigest()
    ]
    assert contents(down(hub, tmp_path))["exp/tag/lm.pth"] == b"\0new" * 100_000


def test_a_commit_whose_answer_is_lost_is_not_made_twice(folder: Path, hub: HubServer) -> None:
    hub.faults.lost_commits = 1
    address = send(folder, hub)
    assert len(hub.repositories[REPO].commits) == 2
    assert address.endswith(hub.repositories[REPO].branches["main"])


def test_a_hub_that_is_down_for_a_while(folder: Path, hub: HubServer) -> None:
    hub.faults.unavailable = 4
    send(folder, hub, tries=6)
    assert hub.files(REPO)["meta.yaml"] == b"files: {}\n"


def test_nothing_listens_there(folder: Path) -> None:
    with HubServer(TOKEN) as hub:
        address = hub.url
    with pytest.raises(UploadFailed, match="2 attempts failed"):
        upload(folder, Destination(REPO), "m", tries=2, wait=0.0, endpoint=address)


def test_private_and_revision(folder: Path, hub: HubServer, tmp_path: Path) -> None:
    send(folder, hub, where={"private": True, "revision": "v1"})
    repository = hub.repositories[REPO]
    assert repository.private
    assert "meta.yaml" not in hub.files(REPO) and "meta.yaml" in hub.files(REPO, "v1")
    assert "meta.yaml" in contents(down(hub, tmp_path, "v1"))
    send(folder, hub, where={"revision": "v1"})  # the branch may exist


def test_private_is_not_silently_public(folder: Path, hub: HubServer) -> None:
    send(folder, hub)
    with pytest.raises(ValueError, match="exists already and is public"):
        send(folder, hub, where={"private": True})


def test_files_of_an_earlier_model_are_named(
    folder: Path, hub: HubServer, caplog: pytest.LogCaptureFixture
) -> None:
    send(folder, hub)
    (folder / "exp/tag/lm.pth").rename(folder / "exp/tag/other.pth")
    send(folder, hub)
    assert "files of earlier commits, which are left as they are: exp/tag/lm.pth" in caplog.text


def test_tokens_that_do_not_help(
    folder: Path, hub: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_another")
    with pytest.raises(ValueError, match="the token is not accepted"):
        send(folder, hub)
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(ValueError, match="hf auth login"):
        send(folder, hub)


def test_a_card_that_the_hub_refuses(folder: Path, hub: HubServer) -> None:
    (folder / "README.md").write_text("---\nmodel-index:\n- name: x\n  results: [{}]\n---\n")
    with pytest.raises(ValueError, match="Invalid metadata"):
        send(folder, hub)


def test_a_download_broken_in_the_middle_goes_on(
    folder: Path, hub: HubServer, tmp_path: Path
) -> None:
    send(folder, hub)
    hub.faults.broken_downloads = 2
    assert contents(down(hub, tmp_path))["exp/tag/lm.pth"] == contents(folder)["exp/tag/lm.pth"]


def command(folder: Path, *options: str) -> int:
    return main(["--pack", str(folder), "--hf_repo", REPO, *options])


def test_dry_run_writes_the_folder_and_needs_neither_token_nor_network(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr("socket.socket.connect", None)
    package = make_package(tmp_path / "package").root
    assert command(package, "--dry_run", "--language", "en", "--license", "mit") == 0
    written = tmp_path / "package_hub"
    said = capsys.readouterr().out
    assert all(name in said for name in contents(written)) and "nothing was sent" in said
    assert "license: mit" in (written / "README.md").read_text()
    assert command(package, "--dry_run") == 2 and "exists and is not empty" in caplog.text
    assert command(package) == 2 and "hf auth login" in caplog.text


def test_the_command_uploads_what_the_dry_run_shows(
    hub: HubServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", hub.url)
    package = make_package(tmp_path / "package").root
    options = ("--language", "en", "--datasets", "mini_tts", "--revision", "v2")
    assert command(package, *options, "--dry_run", "--folder", str(tmp_path / "dry")) == 0
    assert command(package, *options) == 0
    assert f"{hub.url}/{REPO}/commit/" in capsys.readouterr().out
    sent = {k: v for k, v in hub.files(REPO, "v2").items() if k != ".gitattributes"}
    assert sent == contents(tmp_path / "dry")
    assert not list(tmp_path.glob("*_hub"))


def test_exit_status_when_the_hub_is_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with HubServer(TOKEN) as gone:
        monkeypatch.setattr(constants, "ENDPOINT", gone.url)
    package = make_package(tmp_path / "package").root
    assert command(package, "--tries", "1") == 1
    assert "1 attempts failed" in caplog.text
    assert command(package, "--tries", "0") == 2
    assert command(tmp_path / "nothing") == 2


def test_what_is_worth_another_attempt() -> None:
    assert transient(ConnectionResetError()) and transient(TimeoutError())
    assert transient(RuntimeError("hf_xet: data processing error"))
    wrapped = RuntimeError("Error while uploading")
    wrapped.__cause__ = ConnectionResetError()
    assert transient(wrapped)
    assert not transient(FileNotFoundError("model.pth")) and not transient(ValueError())


@pytest.mark.parametrize("name", ["tiny", "a/b/c", "owner/", "own er/x"])
def test_names_that_are_none(name: str) -> None:
    with pytest.raises(ValueError, match="expected owner/name"):
        Destination(name)
