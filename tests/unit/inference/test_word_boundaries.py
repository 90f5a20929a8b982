"""learn_boundaries on a tiny model, and decode with what it made."""

from __future__ import annotations

from pathlib import Path

import pytest

from espnet_plugin.data.kaldi_files import read_table
from espnet_plugin.inference import decode_job
from espnet_plugin.jobs import learn_boundaries
from espnet_plugin.search import Hypothesis
from tests.decode_job import decode, refusal
from tests.tiny_model import TOKENS, write_data, write_model

TEXTS = {f"u{n:02d}": ["AB B", "BA", "AB BA AB"][n % 3] for n in range(24)}


@pytest.fixture(scope="module", params=["monotonic", "rnnt"])
def learned(request, tmp_path_factory) -> tuple[Path, list[str]]:
    folder = tmp_path_factory.mktemp(request.param)
    config, model = write_model(folder / "model", request.param)
    options = write_data(folder / "data", TEXTS, frames=300)
    text = ["--data_path_and_name_and_type", f"{folder / 'data/text'},text,text"]
    given = [*options, *text, "--train_config", str(config), "--model_file", str(model)]
    assert learn_boundaries.main([*given, "--output_dir", str(folder / "word_times")]) == 0
    return folder, [*options, "--asr_train_config", str(config), "--asr_model_file", str(model)]


def times(folder: Path) -> dict[str, list[str]]:
    return {utt: line.split() for utt, line in read_table(folder / "word_times").items()}


def says_two_words(*given):
    """A search whose every result is AB BA."""
    tokens = tuple(TOKENS.index(name) for name in ("A", "B", "<space>", "B", "A"))
    found = Hypothesis(tokens, -1.0, -1.0, frames=(1, 2, 3, 4, 5))
    return lambda frames, lengths: [[found] for _ in lengths]


def test_decode_uses_them(learned, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, options = learned
    monkeypatch.setattr(decode_job, "make_searcher", says_two_words)
    lags = {utt: len(line.split()) for utt, line in read_table(folder / "word_times/lags").items()}
    assert lags == {utt: 2 * len(text.split()) for utt, text in TEXTS.items()}
    boundaries = folder / "word_times/boundaries.npz"
    plain = decode(options, tmp_path / "a")
    assert decode(options, tmp_path / "b", "--boundary_file", boundaries) == plain
    labels, sound = times(tmp_path / "a"), times(tmp_path / "b")
    moved = 0
    for utt in TEXTS:
        assert sound[utt][2::4] == labels[utt][2::4] and sound[utt][3::4] == labels[utt][3::4]
        starts = [float(value) for value in sound[utt][::4]]
        ends = [a + float(d) for a, d in zip(starts, sound[utt][1::4], strict=True)]
        assert (
            sound[utt][2::4] == ["AB", "BA"]
            and starts == sorted(starts)
            and all(a < b for a, b in zip(starts, ends, strict=True))
        )
        moved += sound[utt][:6] != labels[utt][:6]
    assert moved > len(TEXTS) // 2


def test_a_file_that_is_none(learned, tmp_path: Path, caplog) -> None:
    _, options = learned
    (tmp_path / "x.npz").write_text("nothing")
    said = refusal(caplog, options, tmp_path / "out", "--boundary_file", tmp_path / "x.npz")
    assert "x.npz: no file of word boundaries" in said
