"""Kaldi directories and archives, read back with ESPnet's own reader where it is installed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from espnet_plugin.corpora.kaldi_dir import write_ark, write_data_dir


def test_data_dir_is_sorted_and_complete(tmp_path: Path) -> None:
    utt2spk = {"b-2": "b", "a-1": "a", "b-1": "b"}
    write_data_dir(tmp_path / "train", utt2spk, {"text": {"b-2": "X Y", "b-1": "Z", "a-1": "W"}})
    read = {file.name: file.read_text() for file in (tmp_path / "train").iterdir()}
    assert read == {
        "text": "a-1 W\nb-1 Z\nb-2 X Y\n",
        "utt2spk": "a-1 a\nb-1 b\nb-2 b\n",
        "spk2utt": "a a-1\nb b-1 b-2\n",
    }


def test_table_with_other_utterances_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"text: 2 utterances are not in both .*: a, c"):
        write_data_dir(tmp_path / "train", {"a": "s", "b": "s"}, {"text": {"b": "B", "c": "C"}})
    with pytest.raises(ValueError, match="no utterance"):
        write_data_dir(tmp_path / "train", {}, {})
    assert not (tmp_path / "train").exists()


def test_ark_is_what_espnet_reads(tmp_path: Path) -> None:
    kaldi = pytest.importorskip("omniio").kaldi
    rng = np.random.default_rng(0)
    matrices = {"a-1": rng.normal(size=(7, 13)), "b": rng.normal(size=(1, 2))}
    scp = write_ark(tmp_path / "feats" / "x.ark", matrices.items())
    (tmp_path / "feats.scp").write_text("".join(f"{k} {v}\n" for k, v in scp.items()))
    read = kaldi.load_scp(str(tmp_path / "feats.scp"))
    for key, matrix in matrices.items():
        assert read[key].dtype == np.float32
        np.testing.assert_array_equal(read[key], matrix.astype(np.float32))


def test_ark_refuses_anything_but_matrices(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"u has shape \(3,\)"):
        write_ark(tmp_path / "x.ark", [("u", np.zeros(3))])
    assert not (tmp_path / "x.ark").exists()
