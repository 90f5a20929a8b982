"""Small data folders, as good as can be, for tests to spoil, and the options to check them with."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile

from espnet_plugin.corpora.kaldi_dir import write_ark, write_table
from espnet_plugin.data.check import CheckOptions, Report
from espnet_plugin.data.model_frames import ModelFrames, Subsampling
from espnet_plugin.data.text_units import characters

UTTERANCES = ("a-1", "a-2", "b-1", "b-2")
TEXT = {"a-1": "AB", "a-2": "B A", "b-1": "A", "b-2": "BA"}
TOKENS = ("<blank>", "<unk>", "A", "B", "<space>", "<sos/eos>")
CHARACTERS = CheckOptions(
    feats_type="extracted",
    frames=ModelFrames(subsampling=Subsampling(4, 3)),
    tokens=TOKENS,
    tokenize=characters,
)
RAW = CheckOptions(feats_type="raw", frames=ModelFrames(16000, 160, Subsampling(4, 3)))


def feature_dir(folder: Path, changed: dict[str, np.ndarray] | None = None) -> Path:
    """Features of 23 frames (5 of the encoder) and 3 channels, some of them changed."""
    matrices = {key: np.ones((23, 3), np.float32) for key in UTTERANCES} | (changed or {})
    write_table(folder / "feats.scp", write_ark(folder / "feats.ark", sorted(matrices.items())))
    write_table(folder / "text", TEXT)
    write_table(folder / "utt2spk", {key: key[0] for key in UTTERANCES})
    return folder


def audio_dir(folder: Path, rate: int = 16000) -> Path:
    folder.mkdir(parents=True)
    for key in UTTERANCES:
        soundfile.write(folder / f"{key}.wav", np.zeros(rate // 4, np.float32), rate)
    write_table(folder / "wav.scp", {key: str(folder / f"{key}.wav") for key in UTTERANCES})
    write_table(folder / "text", TEXT)
    return folder


def the_error(report: Report) -> str:
    (message,) = report.errors
    return message
