"""A tiny made-up Mboshi in both forms: noise for speech, and a sentence that is read twice."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import numpy as np

DEVICE = "samsung-SM-T530_mdw_elicit"
DEV = "kouarata_2015-08-14-04-17-01"  # a session of the recipe's development set
REST = "abiayi_2015-09-08-11-33-57"


def name(session: str, number: int) -> str:
    return f"{session}_{DEVICE}_Part3_{number}"


# "bána bo" is read in the development session and once more outside of it.
TRAIN = {
    name(DEV, 1): "wa ámitúúngá",
    name(DEV, 2): "bána bo",
    name(REST, 1): "bána bo",
    name(REST, 2): "mósώsώώ ngá εbέ",
    name(REST, 3): "yeékirá ikóó wa botú",
}
TEST = {name(REST, 4): "wó twεrε", name("martial_2015-09-07-14-53-15", 9): "s éléngé"}
PARTS = {"train": TRAIN, "test": TEST}


def write_audio(path: Path, samples: int, rate: int = 16000, channels: int = 1) -> None:
    """Noise, as WAV or Ogg Opus by the file's suffix."""
    import soundfile

    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(samples).normal(0, 0.1, (samples, channels))
    kind = {"format": "OGG", "subtype": "OPUS"} if path.suffix == ".opus" else {}
    soundfile.write(path, noise, rate, **kind)


def length(utterance: str) -> int:
    """Samples of an utterance's audio, different ones of different length."""
    return 16000 + 160 * sorted(TRAIN | TEST).index(utterance)


def make_repository(root: Path) -> Path:
    """``full_corpus_newsplit/{train,dev}`` with the files that are wanted and some that are not."""
    for part, folder in (("train", "train"), ("test", "dev")):
        for utterance, text in PARTS[part].items():
            place = root / "full_corpus_newsplit" / folder / utterance
            write_audio(Path(f"{place}.wav"), length(utterance))
            # decomposed, as an editor of a Mac would leave it
            Path(f"{place}.mb.cleaned").write_text(unicodedata.normalize("NFD", text) + "\n")
            Path(f"{place}.mb").write_text(text.title() + " .\n")
            Path(f"{place}.mb.cleaned.split").write_text(" ".join(text) + "\n")
            Path(f"{place}.fr").write_text("Il dit que oui.\n")
    return root


def make_tar_folder(root: Path) -> Path:
    """What the tar of Ogg Opus files holds."""
    for part, texts in PARTS.items():
        for utterance in texts:
            write_audio(root / "audio" / f"{utterance}.opus", length(utterance))
        lines = [f"{utterance} {text}\n" for utterance, text in texts.items()]
        (root / f"{part}.text").write_text("".join(lines))
    (root / "silver.ctm").write_text("")
    return root
