"""The command `check-data`: what it writes and when it does not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from espnet_plugin.bin import check_data
from espnet_plugin.corpora.kaldi_dir import write_table
from espnet_plugin.data.kaldi_files import read_table
from tests.checked_data import TEXT, TOKENS, UTTERANCES, audio_dir, feature_dir


def options_for(tmp_path: Path) -> list[str]:
    (tmp_path / "tokens.txt").write_text("".join(f"{token}\n" for token in TOKENS))
    vocabulary = ["--token_list", str(tmp_path / "tokens.txt"), "--token_type", "char"]
    return ["--data_dir", str(tmp_path / "d"), "--feats_type", "extracted", *vocabulary]


def test_a_filtered_copy(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = feature_dir(tmp_path / "d", {"b-1": np.zeros((0, 3), np.float32)})
    target = tmp_path / "dump"
    options = [*options_for(tmp_path), "--write_filtered", str(target)]
    assert check_data.main(options) == 0
    assert "utterance b-1 left out" in caplog.text
    assert (target / "text").read_text() == "a-1 AB\na-2 B A\nb-2 BA\n"
    assert (target / "spk2utt").read_text() == "a a-1 a-2\nb b-2\n"
    assert list(read_table(target / "feats.scp")) == ["a-1", "a-2", "b-2"]
    assert list(read_table(target / "skipped_utts")) == ["b-1"]
    assert len(read_table(folder / "text")) == 4  # the data itself stay
    same = [*options_for(tmp_path), "--write_filtered", str(folder)]
    assert check_data.main(same) == 2


def test_segments_keep_the_recordings_they_need(tmp_path: Path) -> None:
    folder = audio_dir(tmp_path / "d")
    recordings = {"r1": f"{folder}/a-1.wav", "r2": f"{folder}/a-2.wav"}
    write_table(folder / "wav.scp", recordings)
    write_table(folder / "segments", {key: f"r{key[-1]} 0 0.2" for key in UTTERANCES})
    write_table(folder / "text", TEXT | {"a-2": "", "b-2": ""})
    options = ["--data_dir", str(folder), "--write_filtered", str(tmp_path / "out")]
    assert check_data.main([*options, "--fs", "16k", "--subsampling", "4,3"]) == 0
    assert read_table(tmp_path / "out/wav.scp") == {"r1": recordings["r1"]}
    assert read_table(tmp_path / "out/segments") == {"a-1": "r1 0 0.2", "b-1": "r1 0 0.2"}


def test_nothing_is_written_after_an_error(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_table(feature_dir(tmp_path / "d") / "text", TEXT | {"a-1": "Q"})
    options = [*options_for(tmp_path), "--write_filtered", str(tmp_path / "dump")]
    assert check_data.main(options) == 2
    assert "tokens outside the vocabulary: 'Q'" in caplog.text
    assert not (tmp_path / "dump").exists()


def test_lengths_by_the_models_configuration(tmp_path: Path) -> None:
    feature_dir(tmp_path / "d", {"a-2": np.ones((14, 3), np.float32)})  # 2 frames, 3 labels
    config = tmp_path / "config.yaml"
    config.write_text("encoder: conformer\nencoder_conf: {input_layer: conv2d}\n")
    options = [*options_for(tmp_path), "--out", str(tmp_path), "--config", str(config)]
    assert check_data.main(options) == 0
    assert list(read_table(tmp_path / "skipped_utts")) == ["a-2"]
    assert check_data.main([*options, "--config", str(tmp_path / "nothing")]) == 2
