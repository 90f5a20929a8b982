"""Tiny copies of LDC's Switchboard and Hub5 packages, in their exact layouts.

Nothing here is taken from the corpora: the conversations are made up. `write_all` fills the
conversations with whatever `Audio` gives; a TTS makes them speech (test_swbd_recipe.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

RATE = 8000


def mu_law(samples: np.ndarray) -> np.ndarray:
    """ITU-T G.711: int16 to mu-law bytes, uint8, of the same shape."""
    sign = np.where(samples < 0, 0x80, 0)
    magnitude = np.minimum(np.abs(samples.astype(np.int32)), 32635) + 132
    exponent = np.floor(np.log2(magnitude)).astype(np.int32) - 7
    mantissa = (magnitude >> (exponent + 3)) & 0x0F
    return (~(sign | (exponent << 4) | mantissa) & 0xFF).astype(np.uint8)


def sphere_bytes(samples: np.ndarray, rate: int = RATE, coding: str = "ulaw") -> bytes:
    """A SPHERE file of int16 samples [T, channels]."""
    width = 1 if coding.startswith("ulaw") else 2
    lines = [
        "NIST_1A", "   1024", f"channel_count -i {samples.shape[1]}",
        f"sample_count -i {len(samples)}", f"sample_rate -i {rate}", f"sample_n_bytes -i {width}",
        "sample_byte_format -s1 1" if width == 1 else "sample_byte_format -s2 10",
        f"sample_coding -s{len(coding)} {coding}", "channels_interleaved -s4 TRUE",
        f"sample_sig_bits -i {8 * width}", "end_head", "",
    ]  # fmt: skip
    header = "\n".join(lines).encode().ljust(1024)
    data = mu_law(samples) if width == 1 else samples.astype(">i2")
    return header + data.tobytes()


@dataclass(frozen=True)
class Turn:
    """Somebody speaks on one channel."""

    side: str
    begin: float
    end: float
    text: str


@dataclass
class Conversation:
    """Two channels; `samples` [T, 2], if there is something to hear."""

    name: str
    turns: Sequence[Turn]
    samples: np.ndarray | None = None

    def audio(self) -> np.ndarray:
        """Samples [T, 2]: those given, or a constant on each channel, 100 and 200."""
        if self.samples is not None:
            return self.samples
        seconds = max(turn.end for turn in self.turns) + 0.5
        return np.tile(np.array([100, 200], np.int16), (round(seconds * RATE), 1))


@dataclass
class Corpus:
    """All packages; an empty list leaves its package out."""

    training: list[Conversation]
    dictionary: str
    eval2000: list[Conversation] = field(default_factory=list)
    hub5e01: list[Conversation] = field(default_factory=list)
    rt03: list[Conversation] = field(default_factory=list)
    glm: str = ""
    fisher: str = ""


def write_all(root: Path, corpus: Corpus) -> dict[str, Path]:
    """Write the packages; returns {option of run.sh: folder}."""
    paths = {"swbd": root / "LDC97S62", "swbd_ms98": root / "swb_ms98_transcriptions"}
    for n, conversation in enumerate(corpus.training):
        disc = paths["swbd"] / f"swb1_d{n % 4 + 1}" / "data"
        _write(disc / f"sw0{conversation.name}.sph", sphere_bytes(conversation.audio()))
        _write_ms98(paths["swbd_ms98"], conversation)
    _write(paths["swbd_ms98"] / "sw-ms98-dict.text", corpus.dictionary)
    _write(paths["swbd_ms98"] / "AAREADME.text", "made up\n")
    if corpus.eval2000:
        paths["eval2000_audio"] = root / "LDC2002S09/hub5e_00"
        paths["eval2000_text"] = root / "LDC2002T43/2000_hub5_eng_eval_tr"
        audio, reference = paths["eval2000_audio"] / "english", paths["eval2000_text"] / "reference"
        _write_audio(audio, corpus.eval2000)
        _write(audio / "hub5e_00.pem", _pem(corpus.eval2000))
        _write(reference / "hub5e00.english.000405.stm", stm_text(corpus.eval2000))
        _write(reference / "en20000405_hub5.glm", corpus.glm)
    if corpus.hub5e01:
        paths["hub5e01"] = root / "LDC2002S13/hub5e_01"
        _write_audio(paths["hub5e01"] / "data/english", corpus.hub5e01)
        stm = paths["hub5e01"] / "data/transcr/hub5e01.english.20010402.stm"
        _write(stm, stm_text(corpus.hub5e01))
    if corpus.rt03:
        paths["rt03"] = root / "LDC2007S10"
        _write_audio(paths["rt03"] / "data/audio/eval03/english/cts", corpus.rt03)
        references = paths["rt03"] / "data/references/eval03/english/cts"
        for conversation in corpus.rt03:
            text = stm_text([conversation], channels={"A": "1", "B": "2"})
            _write(references / f"{conversation.name}.stm", text)
        _write(paths["rt03"] / "data/trans_rules/en20030506.glm", corpus.glm)
    if corpus.fisher:
        paths["fisher_p1"] = root / "LDC2004T19/fe_03_p1_tran"
        _write(paths["fisher_p1"] / "data/trans/000/fe_03_00001.txt", corpus.fisher)
    return paths


def stm_text(conversations: Sequence[Conversation], channels: dict[str, str] | None = None) -> str:
    """References as NIST writes them, with their labels declared."""
    lines = [
        ';; CATEGORY "0" "" ""', ';; LABEL "O" "Overall" "Overall"',
        ';; CATEGORY "1" "Corpus" ""', ';; LABEL "en" "CallHome" ""', ';; LABEL "sw" "SWB" ""',
        ';; LABEL "fsh" "Fisher" ""',
    ]  # fmt: skip
    for conversation in conversations:
        label = conversation.name.split("_")[0]
        for turn in conversation.turns:
            channel = (channels or {}).get(turn.side, turn.side)
            lines.append(
                f"{conversation.name} {channel} {conversation.name}_{turn.side} {turn.begin:.2f} "
                f"{turn.end:.2f} <O,{label}>  {turn.text}".rstrip()
            )
    return "".join(f"{line}\n" for line in lines)


def _pem(conversations: Sequence[Conversation]) -> str:
    rows = [
        f"{c.name} {t.side} unknown_speaker {t.begin:.2f} {t.end:.2f}\n"
        for c in conversations
        for t in c.turns
    ]
    return ";; partition\n" + "".join(rows)


def _write_ms98(root: Path, conversation: Conversation) -> None:
    for side in "AB":
        stem = f"sw{conversation.name}{side}-ms98-a"
        turns = [turn for turn in conversation.turns if turn.side == side]
        lines = [
            f"{stem}-{n:04d} {turn.begin:.6f} {turn.end:.6f} {turn.text}\n"
            for n, turn in enumerate(turns, 1)
        ]
        folder = root / conversation.name[:2] / conversation.name
        _write(folder / f"{stem}-trans.text", "".join(lines))
        _write(folder / f"{stem}-word.text", "made up\n")


def _write_audio(folder: Path, conversations: Sequence[Conversation]) -> None:
    for conversation in conversations:
        _write(folder / f"{conversation.name}.sph", sphere_bytes(conversation.audio()))


def _write(path: Path, content: str | bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
