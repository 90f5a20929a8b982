"""LibriSpeech with a few utterances in each part, and the resources of OpenSLR 11, by hand."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest

soundfile = pytest.importorskip("soundfile")

TRANSCRIPTS = {
    "train-clean-100/103/1240": ["CHAPTER ONE", "MISSUS RACHEL LYNDE'S SURPRISE"],
    "train-clean-100/40/222": ["THE  FOURTH"],
    "dev-clean/1272/128104": ["MISTER QUILTER IS THE APOSTLE"],
    "dev-other/116/288045": ["AS I APPROACHED THE CITY"],
    "test-clean/1089/134686": ["HE HOPED THERE WOULD BE STEW"],
    "test-other/1688/142285": ["THERE'S IRON THEY SAY"],
}
SPEAKERS = """\
; Some pseudo-comments about the columns
;ID  |SEX| SUBSET           |MINUTES| NAME
40   | F | train-clean-100  | 25.22 | Vicki Barbour
103  | F | train-clean-100  | 24.00 | Karen Savage
116  | M | dev-other        |  8.00 | Someone | with a | bar
1089 | M | test-clean       |  8.03 | Peter Bobbe
1272 | M | dev-clean        |  8.00 | John Rose
1688 | F | test-other       |  8.00 | Somebody Else
19   | F | train-clean-100  | 25.19 | Not in this copy
"""
LEXICON = "A\tAH0\nA\tEY1\nREAD\tR EH1 D\nREAD\tR IY1 D\nREADS  R IY1 D Z\nUH\tAH1\nUH\tAH0\n"
ARPA = "\\data\\\nngram 1=1\n\n\\1-grams:\n-1.0 </s>\n\n\\end\\\n"


def write_flac(path: Path, samples: int = 1600, rate: int = 16000, channels: int = 1) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(samples).standard_normal((samples, channels)) * 0.1
    soundfile.write(path, noise, rate, subtype="PCM_16")


def make_corpus(root: Path) -> Path:
    """LibriSpeech/ with a few utterances in each part."""
    for place, texts in TRANSCRIPTS.items():
        folder = root / place
        name = "-".join(place.split("/")[1:])
        lines = []
        for number, text in enumerate(texts):
            write_flac(folder / f"{name}-{number:04d}.flac", 1600 + 160 * number)
            lines.append(f"{name}-{number:04d} {text}\n")
        (folder / f"{name}.trans.txt").write_text("".join(lines))
    (root / "SPEAKERS.TXT").write_text(SPEAKERS)
    (root / "README.TXT").write_text("LibriSpeech\n")
    return root


def make_resources(folder: Path) -> Path:
    """The files of OpenSLR 11 that the preparation asks for."""
    folder.mkdir(parents=True)
    (folder / "librispeech-lexicon.txt").write_text(LEXICON)
    for name in ("4-gram.arpa.gz", "3-gram.pruned.3e-7.arpa.gz"):
        (folder / name).write_bytes(gzip.compress(ARPA.encode()))
    text = gzip.compress(b"A READ\n\nREADS  A\n")
    (folder / "librispeech-lm-norm.txt.gz").write_bytes(text)
    return folder
