"""Packages from an address and from the Hub: fetched once, and failures that say what to do."""

from __future__ import annotations

import functools
import http.server
import re
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from espnet_plugin.packages.loading import pretrained_arguments
from espnet_plugin.packages.sources import open_package
from tests.unit.packages.test_package import make, zipped


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ESPNET_PROGRESSIVE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    """A web server on this machine that gives the files of ``tmp_path / "www"``."""
    (tmp_path / "www").mkdir()

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: Any) -> None:
            pass

    handler = functools.partial(Quiet, directory=str(tmp_path / "www"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def test_from_an_address(address: str, tmp_path: Path) -> None:
    zipped(make(tmp_path / "www/p"))
    source = f"{address}/p.zip?download=1"
    assert pretrained_arguments(source)["nbest"] == 2
    (tmp_path / "www/p.zip").unlink()
    assert pretrained_arguments(source)["nbest"] == 2, "fetched twice"


@pytest.mark.parametrize("wrong", ["a login page", "a zip file of something else"])
def test_what_is_refused_is_fetched_anew(
    address: str, tmp_path: Path, cache: Path, wrong: str
) -> None:
    source, page = f"{address}/p.zip?key=SECRET", tmp_path / "www/p.zip"
    page.write_text("<html>")
    if "page" not in wrong:
        with zipfile.ZipFile(page, "w") as file:
            file.writestr("readme", "no package")
    with pytest.raises(
        ValueError, match=r"p\.zip\?\.\.\.: what came was removed: .*(whole zip file|meta\.yaml)"
    ) as caught:
        open_package(source)
    assert "SECRET" not in str(caught.value)
    assert not list((cache / "downloads").iterdir())
    zipped(make(tmp_path / "www/p"))
    assert pretrained_arguments(source)["nbest"] == 2


def test_a_query_is_no_part_of_the_cached_name(address: str, tmp_path: Path, cache: Path) -> None:
    zipped(make(tmp_path / "www/p"))
    for query in ("", "?key=SECRET", "?key=OTHER"):
        open_package(f"{address}/p.zip{query}")
    names = sorted(path.name for path in (cache / "downloads").glob("*.zip"))
    assert len(names) == 3
    assert all(re.fullmatch(r"127\.0\.0\.1_\d+_p-[0-9a-f]{12}\.zip", name) for name in names)


def test_an_address_that_gives_nothing(address: str) -> None:
    with pytest.raises(ValueError, match=r"none.zip: cannot be fetched: .*404"):
        open_package(f"{address}/none.zip")


def test_from_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, asked = make(tmp_path / "snapshot"), []

    def snapshot_download(name: str, **given: Any) -> Any:
        if given.get("dry_run"):
            return []
        asked.append((name, given["revision"]))
        return str(folder)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    for source in ("owner/name", "owner/name@v1.0", "https://huggingface.co/owner/name"):
        given = pretrained_arguments(source)
        config = yaml.safe_load(Path(given["asr_train_config"]).read_text())
        assert Path(config["normalize_conf"]["stats_file"]).read_bytes() == b"numbers"
    assert asked == [("owner/name", None), ("owner/name", "v1.0"), ("owner/name", None)]


def test_a_hub_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub.errors import LocalEntryNotFoundError

    def snapshot_download(name: str, **given: Any) -> str:
        raise LocalEntryNotFoundError("cannot reach the Hub")

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    with pytest.raises(
        ValueError, match=r"exp/typo: not a file here, and the Hub does not give it"
    ):
        open_package("exp/typo")


def test_without_a_network_the_cache_serves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub.errors import DryRunError

    folder = make(tmp_path / "snapshot")

    def snapshot_download(name: str, **given: Any) -> Any:
        if given.get("dry_run"):
            raise DryRunError("the repository cannot be accessed")
        assert given["local_files_only"]  # nothing unchecked is fetched
        return str(folder)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    assert Path(pretrained_arguments("owner/name")["asr_train_config"]).is_file()
