"""A tiny Switchboard that synthetic voices speak: both sides of a call at 8 kHz."""

from __future__ import annotations

import os
import subprocess
import sys
import wave
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml

from tests.recipes.swbd_corpus import RATE, Conversation, Corpus, Turn

REPO = Path(__file__).resolve().parents[2]
MINI_TTS = REPO / "egs2" / "mini_tts" / "asr1"
WORDS = ["zero", "five", "six", "seven", "yeah"]
DICTIONARY = """\
# a few words of it, as the dictionary writes them
zero z ih r ow
five f ay v
six s ih k s
seven s eh v ax n
yeah y ae
yeah y eh
I ay
se[ven]- s eh
"""
# With the vowels and consonants that the words above lack, all 42 phonemes are there.
DICTIONARY += """\
badge b ae jh
church ch er ch
those dh ow z
good g uh d
house hh aw s
long l ao ng
math m aa th
shoe sh uw
toy t oy
vision v iy zh en
we w iy
ate ey t
little p ah el
"""
GLM = """\
;; made up
* name "tiny"
* format = 'NIST1'
* max_nrules = '2500'
* copy_no_hit = 'T'
* case_sensitive = 'F'
UH => %HESITATION / [ ] __ [ ]
YEP => YEAH / [ ] __ [ ]
"""
VOICES = {"train": ["f1", "f3", "m1", "m3"], "dev": ["f2", "m2"], "test": ["f4", "m7"]}


@dataclass(frozen=True)
class Spoken:
    """An utterance of the synthetic corpus."""

    voice: str
    text: str
    samples: np.ndarray  # int16 [T]


def speak(folder: Path, train: int, dev: int, test: int) -> dict[str, list[Spoken]]:
    """Have mini_tts's own program make the speech."""
    config = yaml.safe_load((MINI_TTS / "conf" / "corpus.yaml").read_text())
    config |= {"accents": ["en"], "variants": VOICES, "snr_db": [30, 40]}
    config |= {"classes": {"word": WORDS}, "patterns": [[1, "<word>{1,3}"]]}
    folder.mkdir(parents=True)
    (folder / "corpus.yaml").write_text(yaml.safe_dump(config))
    options = {"num_train": train, "num_dev": dev, "num_test": test, "sample_rate": RATE}
    subprocess.run(
        [sys.executable, "local/data.py", "--config", str(folder / "corpus.yaml"),
         "--output", str(folder), *(f"--{name}={value}" for name, value in options.items())],
        cwd=MINI_TTS,
        env={**os.environ, "PYTHONPATH": str(REPO), "OMP_NUM_THREADS": "1"},
        check=True,
        capture_output=True,
    )  # fmt: skip
    return {name: _read(folder / name) for name in VOICES}


def _read(folder: Path) -> list[Spoken]:
    tables = {
        name: dict(line.split(maxsplit=1) for line in (folder / name).read_text().splitlines())
        for name in ("wav.scp", "text", "utt2spk")
    }
    spoken = []
    for key, path in tables["wav.scp"].items():
        with wave.open(path) as file:
            assert file.getframerate() == RATE
            samples = np.frombuffer(file.readframes(file.getnframes()), np.int16)
        spoken.append(Spoken(tables["utt2spk"][key], tables["text"][key].lower(), samples))
    return spoken


def converse(name: str, spoken: Sequence[Spoken], reference: bool = False) -> Conversation:
    """A call: the first speaker on channel A, another one on B, one after the other.

    Args:
        reference: write the text as references are written, and end with segments that say
            nothing; otherwise as the transcripts are, and end with silence and a noise.
    """
    first = spoken[0].voice
    turns, pieces, now = [], [], 0.25
    for number, one in enumerate(spoken):
        side = "A" if one.voice == first else "B"
        end = now + len(one.samples) / RATE
        text = one.text.upper() if reference else marked(one.text, number)
        turns.append(Turn(side, round(now, 2), round(end, 2), text))
        pieces.append((side, round(now * RATE), one.samples))
        now = end + 0.3
    texts = ("", "IGNORE_TIME_SEGMENT_IN_SCORING") if reference else ("[silence]", "[noise]")
    noise = np.random.default_rng(0).normal(0, 500, RATE // 2).astype(np.int16)
    pieces.append(("B", round(now * RATE), noise))
    for side, text in zip("AB", texts, strict=True):
        turns.append(Turn(side, round(now, 2), round(now + 0.5, 2), text))
    samples = np.zeros((round((now + 0.75) * RATE), 2), np.int16)
    for side, begin, piece in pieces:
        samples[begin : begin + len(piece), 0 if side == "A" else 1] = piece
    return Conversation(name, turns, samples)


def marked(text: str, number: int) -> str:
    """The transcripts' marks on some of the words, which are spoken all the same."""
    first, _, rest = text.partition(" ")
    marks = (f"[laughter-{first}]", f"{{{first}}}", f"{first}_1", f"[{first}/yes]", first)
    return f"{marks[number % 5]} {rest}".strip()


def spoken_corpus(folder: Path, train: int = 100, evaluation: int = 16) -> Corpus:
    """All packages; training calls of two voices each, every test call of two others."""
    speech = speak(folder, train, evaluation, 2 * evaluation)
    calls = []
    pairs = [("f1", "m1"), ("f3", "m3")]
    for n, pair in enumerate(pairs):
        own = [s for s in speech["train"] if s.voice.split("_")[0] in pair]
        calls += [converse(f"200{2 * n + k + 1}", own[k::2]) for k in range(2)]
    test = speech["test"]
    parts = [test[n::4] for n in range(4)]
    parts.append(speech["dev"])
    names = ["sw_4390", "en_4156", "fsh_60262", "sw_46412", "sw_4777"]
    made = [converse(name, part, reference=True) for name, part in zip(names, parts, strict=True)]
    return Corpus(calls, DICTIONARY, made[:2], made[4:], made[2:4], GLM, fisher_text())


def fisher_text() -> str:
    """Something like a transcript of Fisher."""
    lines = [f"{n}.00 {n}.90 A: {WORDS[n % 5]} {WORDS[(n * 2 + 1) % 5]}\n\n" for n in range(10)]
    return "# fe_03_00001.sph\n# made up\n\n" + "".join(lines)
