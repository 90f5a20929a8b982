"""A tiny corpus, a pipeline YAML and programs that only pretend to train."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import yaml

FAKE = Path(__file__).parent / "fake_programs.py"


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Train and valid folders with feats.scp, statistics, and a four-stage YAML."""
    for part, count in (("train", 6), ("valid", 3)):
        keys = [f"{part}{n}" for n in range(count)]
        data = tmp_path / "dump" / part
        stats = tmp_path / "stats" / part
        for folder in (data, stats):
            folder.mkdir(parents=True)
        for name, value in (("feats.scp", "feats.ark:1"), ("text", "A B")):
            (data / name).write_text("".join(f"{k} {value}\n" for k in keys))
        (data / "feats_dim").write_text("13\n")
        for name, value in (("speech_shape", "50,13"), ("text_shape.char", "3,28")):
            (stats / name).write_text("".join(f"{k} {value}\n" for k in keys))
    (tmp_path / "tokens.txt").write_text("<blank>\nA\nB\n")
    stages = {
        "align": {"max_epoch": 2},
        "viterbi": {"max_epoch": 3},
        "full_sum": {"max_epoch": 3},
        "mbr": {"max_epoch": 1},
    }
    config = {
        "base": {"factor": 3},
        "train_stages": stages,
        "alignment": {"prior_scale": 0.3, "min_score_per_frame": -2.0, "max_label_share": 0.7},
    }
    (tmp_path / "pipeline.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    return tmp_path


@pytest.fixture
def arguments(corpus: Path) -> list[str]:
    """The command line of `espnet_plugin.bin.train` for that corpus, with fake programs."""
    return [
        *("--config", str(corpus / "pipeline.yaml"), "--expdir", str(corpus / "exp")),
        *("--tag", "t", "--train_data", str(corpus / "dump/train")),
        *("--valid_data", str(corpus / "dump/valid"), "--stats_dir", str(corpus / "stats")),
        *("--feats_type", "extracted", "--token_list", str(corpus / "tokens.txt")),
        *("--nj", "2", "--python", f"{sys.executable} {FAKE}"),
    ]
