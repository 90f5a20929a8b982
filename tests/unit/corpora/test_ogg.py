"""Ogg files that were cut off: their reader does not notice, the pages tell."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from espnet_plugin.corpora.ogg import check_ogg

soundfile = pytest.importorskip("soundfile")


@pytest.fixture
def ogg(tmp_path: Path) -> Path:
    """Three seconds of noise: several pages of Opus."""
    path = tmp_path / "noise.opus"
    noise = np.random.default_rng(0).normal(0, 0.1, 48000)
    soundfile.write(path, noise, 16000, format="OGG", subtype="OPUS")
    return path


def test_a_whole_file_passes(ogg: Path) -> None:
    check_ogg(ogg)


def test_every_place_to_cut_is_noticed(ogg: Path) -> None:
    whole = ogg.read_bytes()
    assert whole.count(b"OggS") > 3
    for size in {0, 3, 26, 27, 40, len(whole) // 2, len(whole) - 1, *_pages(whole)[1:]}:
        ogg.write_bytes(whole[:size])
        with pytest.raises(ValueError, match=r"noise\.opus: (cut off|not an Ogg file)"):
            check_ogg(ogg)


def test_its_reader_does_not_notice(ogg: Path) -> None:
    """Why the check is there; should libsndfile learn it one day, the check may go."""
    whole = ogg.read_bytes()
    ogg.write_bytes(whole[: _pages(whole)[-1]])
    samples, _ = soundfile.read(ogg)
    assert 0 < len(samples) < 48000


@pytest.mark.parametrize(
    ("content", "message"), [(b"RIFF" + bytes(60), "not an Ogg file"), (None, "damaged")]
)
def test_what_is_no_ogg_file_is_named(ogg: Path, content: bytes | None, message: str) -> None:
    ogg.write_bytes(content if content is not None else ogg.read_bytes() + b"more")
    with pytest.raises(ValueError, match=message):
        check_ogg(ogg)


def _pages(data: bytes) -> list[int]:
    """Where pages begin."""
    return [n for n in range(len(data)) if data.startswith(b"OggS", n)]
