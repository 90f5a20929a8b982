"""A user's own folder as it comes, through progressive.sh: marks, commands, rates, symbols."""

from __future__ import annotations

import os
import subprocess
import zipfile
from pathlib import Path

import numpy as np
import pytest
import soundfile
import yaml

from tests.recipes.tiny_recipe import REPO, pipeline

pytestmark = pytest.mark.slow

NO_BREAK = "\u00a0"
TEXTS = ("HELLO <noise> WORLD [laughter]", f"GO ON 10{NO_BREAK}000")
RATE = 44100
CONFIG = pipeline(
    {
        "frontend_conf": {"n_fft": 200, "win_length": 200, "hop_length": 80, "n_mels": 20},
        "batch_bins": 100000,
    },
    epochs=dict.fromkeys(("align", "viterbi", "full_sum", "mbr"), 2),
    nbest={},
)
OPTIONS = {
    "train_set": "train", "valid_set": "dev", "test_sets": "dev", "stage": "2", "fs": "8k",
    "channel": "mean", "nlsyms_txt": "nlsyms.txt", "max_wav_duration": "4", "asr_config": "t.yaml",
    "inference_args": "--beam_size 2", "asr_args": "--log_interval=1", "eval_valid_set": "false",
    "nj": "2", "train_threads": "1", "preload": "false", "skip_doctor": "true",
}  # fmt: skip


def make_set(folder: Path, utterances: int) -> None:
    """Commands that write two channels at 44.1 kHz; every table begins with a mark."""
    noise = np.random.default_rng(utterances)
    folder.mkdir(parents=True)
    rows: dict[str, list[str]] = {"wav.scp": [], "text": [], "utt2spk": []}
    for number in range(utterances):
        key, path = f"{folder.name}-u{number:02}", folder.resolve() / f"{number}.wav"
        seconds = 5 if number == 0 and folder.name == "train" else 3
        samples = 0.1 * noise.standard_normal((seconds * RATE, 2))
        soundfile.write(path, samples, RATE, subtype="PCM_32")
        rows["wav.scp"].append(f"{key} cat {path} |")
        rows["text"].append(f"{key} {TEXTS[number % 2]}")
        rows["utt2spk"].append(f"{key} {folder.name}")
    for name, lines in rows.items():
        (folder / name).write_text("\ufeff" + "\n".join(lines) + "\n", encoding="utf-8")


def progressive(folder: Path, python: str, **changed: str) -> str:
    given = [f"--{name}={value}" for name, value in {**OPTIONS, **changed}.items() if value]
    variables = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUTF8": "1"}
    command = ["./progressive.sh", *given, "--python", python]
    done = subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return done.stdout + done.stderr


def test_from_the_folder_to_the_packed_model(tmp_path: Path, preloaded_python: str) -> None:
    (tmp_path / "progressive.sh").symlink_to(REPO / "egs2/TEMPLATE/asr1/progressive.sh")
    plan = {"stage_scheduler_conf": {"stages": ["align", "viterbi"]}}
    (tmp_path / "t.yaml").write_text(yaml.safe_dump({**CONFIG, **plan}))
    (tmp_path / "nlsyms.txt").write_text("\ufeff<noise>\n\n[laughter]\n", encoding="utf-8")
    make_set(tmp_path / "data/train", 8)
    make_set(tmp_path / "data/dev", 4)

    said = progressive(tmp_path, preloaded_python, stop_stage="11")

    assert said.count("resampled from 44100 Hz to 8000 Hz") == 2
    kept = (tmp_path / "dump/raw/train/text").read_text(encoding="utf-8").splitlines()
    assert len(kept) == 7 and kept[0].startswith("train-u01 ")
    exp = tmp_path / "exp/t_raw_char"
    labels = yaml.safe_load((exp / "viterbi/config.yaml").read_text("utf-8"))["token_list"]
    assert {"<noise>", "[laughter]", NO_BREAK, "<space>"} < set(labels) and "<" not in labels
    aligned = (exp / "alignment/alignment").read_text().splitlines()
    emitted = [label for label in aligned[0].split()[1:] if label != "0"]
    expected = [*"HELLO", "<space>", "<noise>", "<space>", *"WORLD", "<space>", "[laughter]"]
    assert [labels[int(label)] for label in emitted] == expected  # what ESPnet trains on
    decoded = exp / "decode/viterbi_default_beam_size2/dev"
    assert (decoded / "text").is_file()
    assert "<noise>" not in (decoded / "score_wer/ref.trn").read_text("utf-8")
    assert f"10{NO_BREAK}000" in (decoded / "score_wer/ref.trn").read_text("utf-8")
    (archive,) = exp.glob("*.zip")
    with zipfile.ZipFile(archive) as packed:
        assert any(name.endswith("nlsyms.txt") for name in packed.namelist())

    again = {"download_model": str(archive), "asr_exp": "exp/again", "asr_args": ""}
    progressive(tmp_path, preloaded_python, **again)
    (reference,) = (tmp_path / "exp/again").rglob("score_wer/ref.trn")
    assert reference.read_text("utf-8") == (decoded / "score_wer/ref.trn").read_text("utf-8")
