"""The AN4 distribution: where its files are, which utterances it has, and what is wrong with it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from cepstra import read_mfc

from espnet_plugin.corpora.sphere import check_sphere
from espnet_plugin.corpora.text_lines import read_lines

SAMPLE_RATE = 16000
SUBSETS = ("train", "test")
# What the complete corpus holds; anything else is a broken copy unless a subset was asked for.
UTTERANCES = {"train": 948, "test": 130}

_TRANSCRIPT = re.compile(r"^(?P<words>.*?)\s*\((?P<name>[^()\s]+)\)$")
_PRONUNCIATION = re.compile(r"^(?P<word>[^\s(]+)(\(\d+\))?\s+(?P<phones>\S.*)$")


@dataclass
class Subset:
    """One of AN4's two subsets; every table is keyed by ``<speaker>-<utterance>``."""

    text: dict[str, str] = field(default_factory=dict)
    utt2spk: dict[str, str] = field(default_factory=dict)
    recordings: dict[str, Path] = field(default_factory=dict)


class CorpusError(ValueError):
    """Everything found wrong with a copy of the corpus, one line per problem."""

    def __init__(self, root: Path, problems: list[str]) -> None:
        shown = problems[:50]
        if len(problems) > len(shown):
            shown.append(f"... and {len(problems) - len(shown)} more")
        lines = "".join(f"\n  {problem}" for problem in shown)
        super().__init__(f"{root}: {len(problems)} problem(s) with AN4:{lines}")


def find_root(directory: Path) -> Path:
    """Return the folder with ``etc/``: `directory` or its ``an4/``.

    Raises:
        ValueError: neither has it.
    """
    for root in (directory, directory / "an4"):
        if (root / "etc").is_dir():
            return root
    raise ValueError(
        f"{directory}: no etc/ here nor in an4/; give the folder (or .tar.gz) of AN4's audio "
        "(an4/wav, an4/etc) or cepstra (an4/feat, an4/etc) distribution as --an4_root"
    )


def layout(root: Path) -> str:
    """Return "audio" (``wav/*.sph``) or "cepstra" (``feat/*.mfc``); audio wins if both are there.

    Raises:
        ValueError: neither folder exists.
    """
    if (root / "wav").is_dir():
        return "audio"
    if (root / "feat").is_dir():
        return "cepstra"
    raise ValueError(f"{root}: neither wav/ (audio) nor feat/ (cepstra) is here")


def utterance_id(name: str) -> tuple[str, str]:
    """Turn AN4's ``an251-fash-b`` into ESPnet's ``fash-an251-b`` and the speaker ``fash``.

    Raises:
        ValueError: not three parts joined by hyphens.
    """
    parts = name.split("-")
    if len(parts) != 3 or not all(parts):
        raise ValueError(f"{name}: an AN4 name has three parts, <utterance>-<speaker>-<microphone>")
    return f"{parts[1]}-{parts[0]}-{parts[2]}", parts[1]


def read_transcripts(path: Path, problems: list[str]) -> dict[str, str]:
    """Read ``WORDS (name)`` lines into {name: words}, sentence marks dropped, upper case."""
    if not path.is_file():
        problems.append(f"{path}: missing")
        return {}
    transcripts: dict[str, str] = {}
    for number, line in enumerate(read_lines(path), 1):
        if not line.strip():
            continue
        match = _TRANSCRIPT.match(line.strip())
        words = [w for w in (match["words"].split() if match else []) if w not in ("<s>", "</s>")]
        if not match or not words:
            problems.append(f"{path}:{number}: not 'WORDS (name)': {line.strip()!r}")
        elif match["name"] in transcripts:
            problems.append(f"{path}:{number}: second transcript of {match['name']}")
        else:
            transcripts[match["name"]] = " ".join(words).upper()
    return transcripts


def read_fileids(path: Path, problems: list[str]) -> dict[str, str]:
    """Read the recordings' paths without suffix into {name: path}."""
    if not path.is_file():
        problems.append(f"{path}: missing")
        return {}
    return {line.rsplit("/", 1)[-1]: line for line in map(str.strip, read_lines(path)) if line}


def read_subset(root: Path, subset: str, problems: list[str]) -> Subset:
    """Match transcripts with recordings, and append to `problems` whatever has no partner."""
    folder, suffix = ("wav", ".sph") if layout(root) == "audio" else ("feat", ".mfc")
    transcripts = read_transcripts(root / "etc" / f"an4_{subset}.transcription", problems)
    fileids = read_fileids(root / "etc" / f"an4_{subset}.fileids", problems)
    for name in sorted(set(transcripts) ^ set(fileids)):
        lacking = "fileids" if name in transcripts else "transcription"
        problems.append(f"{root}/etc/an4_{subset}.{lacking}: no line for {name}")
    found = Subset()
    for name in sorted(set(transcripts) & set(fileids)):
        recording = root / folder / (fileids[name] + suffix)
        if not recording.is_file():
            problems.append(f"{recording}: missing, though it has a transcript")
            continue
        try:
            utterance, speaker = utterance_id(name)
        except ValueError as error:
            problems.append(str(error))
            continue
        found.text[utterance] = transcripts[name]
        found.utt2spk[utterance] = speaker
        found.recordings[utterance] = recording
    return found


def read_features(subset: Subset, problems: list[str]) -> dict[str, np.ndarray]:
    """Read all cepstra of a subset: {utterance: float32 [T, 13]}."""
    features = {}
    for utterance in sorted(subset.recordings):
        try:
            features[utterance] = read_mfc(subset.recordings[utterance])
        except ValueError as error:
            problems.append(str(error))
    return features


def check_recordings(subset: Subset, problems: list[str]) -> None:
    """Check every SPHERE file's header against what ESPnet will need."""
    for utterance in sorted(subset.recordings):
        try:
            check_sphere(subset.recordings[utterance], SAMPLE_RATE)
        except ValueError as error:
            problems.append(str(error))


def read_lexicon(root: Path) -> list[str]:
    """Return ``WORD PHONES`` lines of the corpus's dictionary, its variant numbers dropped."""
    path = root / "etc" / "an4.dic"
    if not path.is_file():
        return []
    matches = (_PRONUNCIATION.match(line.strip()) for line in read_lines(path))
    return sorted({f"{m['word'].upper()} {' '.join(m['phones'].split())}" for m in matches if m})
