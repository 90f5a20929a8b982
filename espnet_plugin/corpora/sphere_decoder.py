"""Expand SPHERE files that LDC compressed with Shorten, by sph2pipe, FFmpeg or desphere.

libsndfile does not read Shorten's format. The package desphere (the extra "sphere") does, with a
decoder in Rust; the two programs come first because they have expanded these corpora for decades.
Each is called once a file; what is there already is kept.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import shutil
import subprocess
import sys
import time
import wave
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

_REPORT_SECONDS = 30.0

Command = Callable[[Path, Path], list[str]]


def find_decoder() -> Command | None:
    """Return the command that turns (SPHERE file, WAV file) into 16-bit PCM, if there is one."""
    sph2pipe, ffmpeg = shutil.which("sph2pipe"), shutil.which("ffmpeg")
    if sph2pipe:
        return lambda source, target: [sph2pipe, "-f", "wav", "-p", str(source), str(target)]
    if ffmpeg:
        options = ["-nostdin", "-loglevel", "error", "-y", "-f", "nistsphere", "-i"]
        codec = ["-acodec", "pcm_s16le", "-f", "wav"]
        return lambda source, target: [ffmpeg, *options, str(source), *codec, str(target)]
    if importlib.util.find_spec("desphere") is not None:
        command = [sys.executable, "-m", "desphere.cli", "--force"]
        return lambda source, target: [*command, str(source), str(target)]
    return None


def expand(
    files: Mapping[Path, Path], samples: Mapping[Path, int], decoder: Command, nj: int = 1
) -> None:
    """Write each compressed SPHERE file as a WAV file, unless it is there.

    Args:
        files: {SPHERE file: WAV file to make}.
        samples: {SPHERE file: samples per channel that its header announces}.
        decoder: see `find_decoder`.
        nj: programs at once.

    Raises:
        ValueError: a file could not be expanded, or gave fewer samples than announced.
    """
    todo = [source for source, target in files.items() if not target.is_file()]
    for directory in {files[source].parent for source in todo}:
        directory.mkdir(parents=True, exist_ok=True)
    start = shown = time.monotonic()

    def one(source: Path) -> None:
        _expand(source, files[source], samples[source], decoder)

    with ThreadPoolExecutor(max(1, nj)) as pool:
        for done, _ in enumerate(pool.map(one, todo), 1):
            now = time.monotonic()
            if now - shown > _REPORT_SECONDS or done == len(todo):
                shown = now
                left = (now - start) / done * (len(todo) - done)
                logging.info("expanded %d/%d recordings, %.0f s left", done, len(todo), left)


def _expand(source: Path, target: Path, samples: int, decoder: Command) -> None:
    partial = target.with_name(target.name + ".partial")
    command = decoder(source, partial)
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise ValueError(f"{source}: {' '.join(command)}: {done.stderr.strip()[-500:]}")
    with wave.open(str(partial)) as file:
        found = file.getnframes()
    if found < samples:
        partial.unlink()
        raise ValueError(
            f"{source}: truncated: header says {samples} samples, {found} could be expanded; "
            "copy it again"
        )
    os.replace(partial, target)
