"""A tiny LibriSpeech that a synthetic voice reads, in the corpus's own layout, with resource 11."""

from __future__ import annotations

import gzip
import math
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import yaml

REPO = Path(__file__).resolve().parents[2]
MINI_TTS = REPO / "egs2" / "mini_tts" / "asr1"
RATE = 16000

# Pronunciations as the official lexicon writes them, with stress; ANSWER is left to the G2P model.
PRONUNCIATIONS = {
    "ZERO": "Z IH1 R OW0", "ONE": "W AH1 N", "TWO": "T UW1", "THREE": "TH R IY1",
    "FOUR": "F AO1 R", "FIVE": "F AY1 V", "SIX": "S IH1 K S", "SEVEN": "S EH1 V AH0 N",
    "EIGHT": "EY1 T", "NINE": "N AY1 N",
    # never spoken here: with them, all 39 phonemes of the official lexicon are there
    "BADGE": "B AE1 JH", "CHURCH": "CH ER1 CH", "THOSE": "DH OW1 Z", "GOOD": "G UH1 D",
    "HOUSE": "HH AW1 S", "LONG": "L AO1 NG", "MATH": "M AE1 TH", "POP": "P AA1 P",
    "SHOW": "SH OW1", "YELL": "Y EH1 L", "TOY": "T OY1", "VISION": "V IH1 ZH AH0 N",
}  # fmt: skip
UNKNOWN = "ANSWER"
SPOKEN = ["zero", "five", "six", "seven"]
# part: set of the synthetic corpus, its voices (a reader each), readers' numbers
PARTS = {
    "train-clean-100": ("train", ["f1", "f3", "m1", "m3"], [19, 26, 103, 1034]),
    "dev-clean": ("dev", ["f2"], [1272]),
    "dev-other": ("dev", ["m2"], [116]),
    "test-clean": ("test", ["f4"], [1089]),
    "test-other": ("test", ["m7"], [1688]),
}
CHAPTER = 128104


def speak(folder: Path, train: int, evaluation: int) -> dict[str, Path]:
    """Have mini_tts's own program make the speech; returns its data folders."""
    config = yaml.safe_load((MINI_TTS / "conf" / "corpus.yaml").read_text())
    config["accents"] = ["en"]
    for name in ("train", "dev", "test"):
        voices = [v for kind, voices, _ in PARTS.values() if kind == name for v in voices]
        config["variants"][name] = voices
    config["classes"] = {"digit": SPOKEN}
    config["patterns"] = [[9, "<digit>{1,3}"], [1, f"{UNKNOWN.lower()} <digit>"]]
    config["snr_db"] = [30, 40]
    folder.mkdir(parents=True)
    (folder / "corpus.yaml").write_text(yaml.safe_dump(config))
    counts = [
        "--num_train",
        str(train),
        "--num_dev",
        str(evaluation),
        "--num_test",
        str(evaluation),
    ]
    subprocess.run(
        [sys.executable, "local/data.py", "--config", str(folder / "corpus.yaml"), "--output",
         str(folder), *counts],
        cwd=MINI_TTS,
        env={**os.environ, "PYTHONPATH": str(REPO), "OMP_NUM_THREADS": "1"},
        check=True,
        capture_output=True,
    )  # fmt: skip
    return {name: folder / name for name in ("train", "dev", "test")}


def table(path: Path) -> dict[str, str]:
    return dict(line.split(maxsplit=1) for line in path.read_text().splitlines())


def make_librispeech(root: Path, speech: dict[str, Path]) -> Path:
    """``LibriSpeech/<part>/<reader>/<chapter>/*.flac``, ``.trans.txt`` and SPEAKERS.TXT."""
    import soundfile

    speakers = [";ID  |SEX| SUBSET           |MINUTES| NAME"]
    for part, (name, voices, readers) in PARTS.items():
        text, speaker = table(speech[name] / "text"), table(speech[name] / "utt2spk")
        audio = table(speech[name] / "wav.scp")
        for voice, reader in zip(voices, readers, strict=True):
            speakers.append(f"{reader:<4} | {voice[0].upper()} | {part:<16} | 8.00 | Voice {voice}")
            folder = root / part / str(reader) / str(CHAPTER)
            folder.mkdir(parents=True)
            lines = []
            keys = [key for key in sorted(text) if speaker[key] == f"{voice}_en"]
            for number, key in enumerate(keys):
                utterance = f"{reader}-{CHAPTER}-{number:04d}"
                samples, rate = soundfile.read(audio[key], dtype="int16")
                assert rate == RATE
                soundfile.write(folder / f"{utterance}.flac", samples, rate, subtype="PCM_16")
                lines.append(f"{utterance} {text[key]}\n")
            (folder / f"{reader}-{CHAPTER}.trans.txt").write_text("".join(lines))
    (root / "SPEAKERS.TXT").write_text("\n".join(speakers) + "\n")
    return root


def make_resources(folder: Path, texts: list[str]) -> Path:
    """The lexicon and the 4-gram as OpenSLR 11 names them; the n-gram's order is 1 here."""
    folder.mkdir()
    lexicon = "".join(f"{word}\t{phonemes}\n" for word, phonemes in PRONUNCIATIONS.items())
    (folder / "librispeech-lexicon.txt").write_text(lexicon)
    counts = Counter(word for text in texts for word in text.split())
    counts["</s>"] = len(texts)
    counts["<UNK>"] = 1
    total = sum(counts.values())
    grams = [f"{math.log10(n / total):.4f}\t{word}\n" for word, n in counts.items()]
    grams.append("-99\t<s>\n")
    arpa = f"\\data\\\nngram 1={len(grams)}\n\n\\1-grams:\n{''.join(grams)}\n\\end\\\n"
    (folder / "4-gram.arpa.gz").write_bytes(gzip.compress(arpa.encode()))
    return folder
