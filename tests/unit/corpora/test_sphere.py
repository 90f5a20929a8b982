"""SPHERE headers, and what libsndfile makes of such files."""

from __future__ import annotations

import sys
import wave
from pathlib import Path

import numpy as np
import pytest

from espnet_plugin.corpora.sphere import check_sphere, read_header
from espnet_plugin.corpora.sphere_decoder import expand, find_decoder
from tests.recipes.swbd_corpus import sphere_bytes


def write(path: Path, channels: int = 2, coding: str = "ulaw", count: int = 800) -> Path:
    ramp = np.arange(count, dtype=np.int16)[:, None] * np.array([1, -2], np.int16)[:channels]
    path.write_bytes(sphere_bytes(ramp.astype(np.int16), coding=coding))
    return path


def test_what_a_header_says(tmp_path: Path) -> None:
    header = check_sphere(write(tmp_path / "a.sph"), 8000, channels=2)
    assert (header.samples, header.channels, header.sample_bytes) == (800, 2, 1)
    assert header.seconds == 0.1 and not header.compressed
    assert read_header(tmp_path / "a.sph")["sample_coding"] == "ulaw"


@pytest.mark.parametrize(("coding", "error"), [("ulaw", 64), ("pcm", 0)])
def test_libsndfile_reads_both_channels(tmp_path: Path, coding: str, error: int) -> None:
    soundfile = pytest.importorskip("soundfile")
    samples, rate = soundfile.read(write(tmp_path / "a.sph", coding=coding), dtype="int16")
    expected = np.arange(800)[:, None] * np.array([1, -2])  # [T, 2]
    assert rate == 8000 and samples.shape == (800, 2)
    assert np.abs(samples.astype(int) - expected).max() <= error


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: data[:-1], "truncated: header says 1600 bytes, file holds 1599; copy it"),
        (lambda data: data[:500], "without its end"),
        (lambda data: data.replace(b"rate -i 8000", b"rate -i 16000")[:2624], "16000 Hz, expected"),
        (lambda data: data.replace(b"count -i 2", b"count -i 1"), "1 channels, expected 2"),
        (lambda data: data.replace(b"-s4 ulaw", b"-s4 huff"), "coding huff; convert it"),
        (lambda data: data.replace(b"count -i 800", b"count -i 0"), "holds no sample"),
        (lambda data: b"RIFF" + data, "not a NIST SPHERE file"),
    ],
)
def test_unusable_files_are_named(tmp_path: Path, change, message: str) -> None:
    path = write(tmp_path / "a.sph")
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(ValueError, match=message) as info:
        check_sphere(path, 8000, channels=2)
    assert str(path) in str(info.value)


def test_compressed_files_are_expanded_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write(tmp_path / "a.sph", coding="ulaw,embedded-shorten-v2.00")
    with pytest.raises(ValueError, match="sph2pipe"):
        check_sphere(source, 8000, channels=2)
    header = check_sphere(source, 8000, channels=2, allow_compressed=True)
    assert header.compressed
    program = tmp_path / "sph2pipe"
    program.write_text(
        f"#!{sys.executable}\nimport sys, wave\n"
        "with wave.open(sys.argv[-1], 'wb') as file:\n"
        "    file.setparams((2, 2, 8000, 0, 'NONE', ''))\n"
        "    file.writeframes(bytes(4 * 800))\n"
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    decoder = find_decoder()
    assert decoder is not None
    target = tmp_path / "out/a.wav"
    expand({source: target}, {source: header.samples}, decoder)
    with wave.open(str(target)) as file:
        assert (file.getnchannels(), file.getnframes()) == (2, 800)
    program.unlink()
    expand({source: target}, {source: header.samples}, decoder)  # there is nothing left to do
    with pytest.raises(ValueError, match="truncated: header says 801 samples, 800 could"):
        program.write_text(f'#!/bin/sh\ncp {target} "$5"\n')
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
        expand({source: tmp_path / "b.wav"}, {source: 801}, decoder)
    assert not (tmp_path / "b.wav").exists()


def test_desphere_expands_shorten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stream of the shorten encoder, two channels with linear prediction, to the sample."""
    fixtures = Path(__file__).parents[2] / "fixtures" / "shorten"
    fields = {"sample_rate": 16000, "channel_count": 2, "sample_count": 4096, "sample_n_bytes": 2}
    lines = [f"{name} -i {value}" for name, value in fields.items()]
    lines += ["sample_byte_format -s2 01", "sample_coding -s26 pcm,embedded-shorten-v2.00"]
    header = "\n".join(["NIST_1A", "   1024", *lines, "end_head\n"]).encode().ljust(1024)
    source = tmp_path / "two sides.sph"
    source.write_bytes(header + (fixtures / "qlpc_ar2_stereo.shn").read_bytes())
    monkeypatch.setenv("PATH", str(tmp_path))  # neither sph2pipe nor ffmpeg
    decoder = find_decoder()
    assert decoder is not None
    target = tmp_path / "out" / "a.wav"
    expand({source: target}, {source: 4096}, decoder)
    with wave.open(str(target)) as found, wave.open(str(fixtures / "qlpc_ar2_stereo.wav")) as file:
        assert found.getparams() == file.getparams()
        assert found.readframes(4096) == file.readframes(4096)
    whole = source.read_bytes()
    source.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="two sides"):
        expand({source: tmp_path / "b.wav"}, {source: 4096}, decoder)
    assert not (tmp_path / "b.wav").exists()


def test_no_decoder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setitem(sys.modules, "desphere", None)
    assert find_decoder() is None
