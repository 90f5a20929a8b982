"""Arguments of a training on three tiny utterances."""

from __future__ import annotations

import argparse

import pytest

from tests.tiny_model import TOKENS, write_data

TEXTS = {"u0": "AB BA", "u1": "AB", "u2": "B"}  # 50, 43, 36 feature frames: T = 13, 11, 9


@pytest.fixture
def training(tmp_path):
    """Arguments of a training on three utterances, with their shape files."""
    from espnet_plugin.tasks.progressive import ProgressiveASRTask

    write_data(tmp_path / "data", TEXTS)
    for name, values in (("speech", ["50,8", "43,8", "36,8"]), ("text", ["5,6", "2,6", "1,6"])):
        lines = [f"{utt} {value}\n" for utt, value in zip(TEXTS, values, strict=True)]
        (tmp_path / f"{name}_shape").write_text("".join(lines))
    shapes = [str(tmp_path / "speech_shape"), str(tmp_path / "text_shape")]
    return argparse.Namespace(
        **ProgressiveASRTask.get_default_config()
        | {
            "output_dir": str(tmp_path / "exp"),
            "token_list": TOKENS,
            "token_type": "char",
            "input_size": 8,
            "encoder": "progressive_conformer",
            "num_workers": 0,
            "ngpu": 0,
            "batch_type": "numel",
            "batch_bins": 1_000_000,
            "train_shape_file": shapes,
            "valid_shape_file": shapes,
        }
        | {
            f"{part}_data_path_and_name_and_type": [
                (str(tmp_path / "data/feats.scp"), "speech", "kaldi_ark"),
                (str(tmp_path / "data/text"), "text", "text"),
            ]
            for part in ("train", "valid")
        }
    )
