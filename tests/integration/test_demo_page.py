"""`espnet-progressive demo` with the packed demo model, in a real headless Chromium.

The browser is the machine's (Debian: apt-get install chromium), or what $CHROMIUM names; its
microphone plays a file.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import numpy as np
import pytest
import soundfile

ROOT = Path(__file__).resolve().parents[2]
AUDIO = ROOT / "tests/fixtures/call.flac"
SAID = "CALL EIGHT NINE ONE SEVEN\nTURN RADIO OFF"
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
CHROMIUM = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
PATIENCE = 600_000  # milliseconds; CI's machine may do much else

pytestmark = [
    pytest.mark.slow,  # a process that imports ESPnet, and a browser
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine, nor in $CHROMIUM"),
]
sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
pytest.importorskip("gradio", reason="gradio is not installed")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The page's address; ended by SIGTERM, the server leaves nothing behind."""
    folder = tmp_path_factory.mktemp("server")
    (folder / "tmp").mkdir()
    names = {"TMPDIR": str(folder / "tmp"), "ESPNET_PROGRESSIVE_CACHE": str(folder / "cache")}
    command = [sys.executable, "-m", "espnet_plugin", "demo", "tests/fixtures/mini_tts.zip"]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [*command, "--port", "0"],
            cwd=ROOT,
            env={**os.environ, "OMP_NUM_THREADS": "1", **names},
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        while not (found := re.search(r"http://127\.0\.0\.1:\d+/", (folder / "log").read_text())):
            assert process.poll() is None, (folder / "log").read_text()
            time.sleep(0.2)
        assert len(list((folder / "tmp").glob("espnet-progressive-demo-*"))) == 1
        yield found[0]
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()
    assert not list((folder / "tmp").glob("espnet-progressive-demo-*"))
    assert "Traceback" not in (folder / "log").read_text()


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A browser whose microphone hears the recording, again and again."""
    heard = tmp_path_factory.mktemp("microphone") / "call.wav"
    samples, rate = soundfile.read(AUDIO, dtype="float32")
    soundfile.write(heard, np.pad(samples, rate // 2), rate)
    options = [
        "--no-sandbox",
        "--use-fake-ui-for-media-stream",
        "--use-fake-device-for-media-stream",
    ]
    with sync_api.sync_playwright() as driver:
        started = driver.chromium.launch(
            executable_path=CHROMIUM,
            args=[*options, f"--use-file-for-fake-audio-capture={heard}"],
            timeout=PATIENCE,
        )
        yield started
        started.close()


@pytest.fixture
def page(server: str, browser: Any) -> Iterator[Any]:
    """The open page; whatever it asks for comes from this machine."""
    with browser.new_context(permissions=["microphone"]) as context:
        page = context.new_page()
        page.set_default_timeout(PATIENCE)
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.goto(server, timeout=PATIENCE)
        yield page
        hosts = {urlparse(url).hostname for url in asked if not url.startswith(("blob:", "data:"))}
        assert hosts == {"127.0.0.1"}


def upload(page: Any, file: Path) -> None:
    page.get_by_role("button", name="Upload file").click()
    page.locator("#speech input[type=file]").set_input_files(file)


def text(page: Any) -> str:
    return page.locator("#text textarea").input_value()


def test_an_uploaded_file_becomes_words_and_captions(page: Any) -> None:
    upload(page, AUDIO)
    page.locator("#status").get_by_text("5.0 s of audio, transcribed in").wait_for()
    assert text(page) == SAID
    cells = page.locator("#words").inner_text().split()
    for word in SAID.split():
        start, end, confidence = map(float, cells[cells.index(word) + 1 :][:3])
        assert 0.0 <= start < end <= 5.0 and 0.5 < confidence <= 1.0
    files = {}
    for ending in ("srt", "vtt"):
        with page.expect_download() as download:
            page.locator(f"#download-{ending}").click()
        assert download.value.suggested_filename == f"call.{ending}"
        files[ending] = Path(download.value.path()).read_text()
    caption = r"1\n00:00:00,\d+ --> 00:00:0[12],\d+\nCALL EIGHT NINE ONE SEVEN\n\n2\n"
    assert re.match(caption, files["srt"])
    assert files["vtt"].startswith("WEBVTT\n\n00:00:00.")


def test_the_microphone_is_heard(page: Any) -> None:
    page.get_by_role("button", name="Record audio").click()
    page.get_by_role("button", name="Record", exact=True).click()
    stop = page.get_by_role("button", name="Stop").first
    stop.wait_for()
    page.wait_for_timeout(7000)  # more than once through the recording
    stop.click()
    page.locator("#status").get_by_text("s of audio, transcribed in").wait_for()
    assert set(text(page).split()) & set(SAID.split()), text(page)


def test_a_file_without_audio_is_an_error_on_the_page(page: Any, tmp_path: Path) -> None:
    (tmp_path / "notes.wav").write_text("no audio")
    upload(page, tmp_path / "notes.wav")
    page.get_by_text("notes.wav: libsndfile cannot read it").first.wait_for()
    assert text(page) == ""
