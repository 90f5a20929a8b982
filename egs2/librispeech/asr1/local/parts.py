"""LibriSpeech as it lies on disk, ``LibriSpeech/<part>/<reader>/<chapter>/``, and its faults.

A chapter's folder holds ``<reader>-<chapter>-<number>.flac`` and ``<reader>-<chapter>.trans.txt``
with a line ``<reader>-<chapter>-<number> WORDS`` for each of them. ``SPEAKERS.TXT`` beside the
parts tells each reader's sex and part.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from espnet_plugin.corpora.text_lines import read_lines

# Utterances of the complete parts (Panayotov et al., "Librispeech", ICASSP 2015, and its archives).
UTTERANCES = {
    "dev-clean": 2703,
    "dev-other": 2864,
    "test-clean": 2620,
    "test-other": 2939,
    "train-clean-100": 28539,
    "train-clean-360": 104014,
    "train-other-500": 148688,
}
SPEAKERS = "SPEAKERS.TXT"

_NOT_NORMALISED = re.compile(r"[^A-Z' ]")


@dataclass
class Part:
    """One part; every table but `gender` is keyed by utterance, `gender` by reader."""

    text: dict[str, str] = field(default_factory=dict)
    utt2spk: dict[str, str] = field(default_factory=dict)
    audio: dict[str, Path] = field(default_factory=dict)
    gender: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Reader:
    """A line of SPEAKERS.TXT: "m" or "f", and the part that the reader is in."""

    gender: str
    part: str


def find_root(directory: Path) -> Path:
    """Return the folder that holds the parts: `directory` or its ``LibriSpeech/``.

    Raises:
        ValueError: there is no part in either; a path that is one level off is recognised.
    """
    for root in (directory, directory / "LibriSpeech"):
        if any((root / part).is_dir() for part in UTTERANCES):
            return root
    if not directory.is_dir():
        raise ValueError(f"--librispeech {directory}: no such folder")
    if directory.name in UTTERANCES or directory.parent.name in UTTERANCES:
        inside = directory if directory.name in UTTERANCES else directory.parent
        raise ValueError(
            f"--librispeech {directory}: this is (in) the part {inside.name}; give the folder "
            f"above it: --librispeech {inside.parent}"
        )
    for below in sorted(path for path in directory.iterdir() if path.is_dir()):
        if any((root / part).is_dir() for part in UTTERANCES for root in (below / "LibriSpeech",)):
            raise ValueError(
                f"--librispeech {directory}: the corpus is one level further down; give "
                f"--librispeech {below}"
            )
    raise ValueError(
        f"--librispeech {directory}: none of {', '.join(UTTERANCES)} is here or in LibriSpeech/; "
        "give the folder that the archives of OpenSLR 12 were unpacked in, or leave the option out "
        "and they are downloaded"
    )


def missing_parts(root: Path, parts: Sequence[str]) -> list[str]:
    """One problem for each part that is not there."""
    return [
        f"{root / part}: no such folder; unpack {part}.tar.gz of OpenSLR 12 there"
        + (", or choose other --train_parts" if part.startswith("train") else "")
        for part in parts
        if not (root / part).is_dir()
    ]


def read_speakers(path: Path, problems: list[str]) -> dict[str, Reader]:
    """Read ``reader | sex | part | minutes | name`` lines; ``;`` begins a comment."""
    if not path.is_file():
        problems.append(f"{path}: missing; every archive of OpenSLR 12 holds it")
        return {}
    readers = {}
    # Only ASCII columns are wanted; in whatever encoding the readers' names are.
    text = path.read_text(encoding="utf-8", errors="replace")
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith(";"):
            continue
        # A reader's name may hold further bars.
        fields = [field.strip() for field in line.split("|", 4)]
        if len(fields) < 5 or not fields[0].isdigit() or fields[1] not in ("M", "F"):
            problems.append(f"{path}:{number}: not 'reader | sex | part | minutes | name': {line}")
        else:
            readers[fields[0]] = Reader(fields[1].lower(), fields[2])
    return readers


def read_part(root: Path, part: str, readers: dict[str, Reader], problems: list[str]) -> Part:
    """Match the transcripts of a part with its audio; whatever has no partner is a problem."""
    found = Part()
    for reader in _numbered(root / part):
        known = readers.get(reader.name)
        if readers and (known is None or known.part != part):
            is_in = f"puts the reader in {known.part}" if known else "does not know the reader"
            problems.append(f"{reader}: {root / SPEAKERS} {is_in}; take the folder out of {part}")
        if known is not None:
            found.gender[reader.name] = known.gender
        for chapter in _numbered(reader):
            _read_chapter(chapter, found, problems)
    found.gender = {name: sex for name, sex in found.gender.items() if name in _speakers(found)}
    return found


def check_size(root: Path, part: str, found: Part, problems: list[str]) -> None:
    """Compare the number of utterances with what the part is known to hold."""
    if len(found.text) != UTTERANCES[part]:
        problems.append(
            f"{root / part}: {len(found.text)} usable utterances, the part has {UTTERANCES[part]}; "
            "unpack its archive again (--allow_subset accepts fewer)"
        )


def _speakers(found: Part) -> set[str]:
    return set(found.utt2spk.values())


def _numbered(folder: Path) -> list[Path]:
    """The folders of readers or chapters, which are named by numbers."""
    return sorted(
        (path for path in folder.iterdir() if path.name.isdigit() and path.is_dir()),
        key=lambda path: int(path.name),
    )


def _read_chapter(chapter: Path, found: Part, problems: list[str]) -> None:
    name = f"{chapter.parent.name}-{chapter.name}"
    transcripts = _read_transcripts(chapter / f"{name}.trans.txt", name, problems)
    audio = {path.stem: path for path in chapter.glob("*.flac")}
    for utterance in sorted(set(audio) - set(transcripts)):
        problems.append(
            f"{audio[utterance]}: audio without a transcript; add its line to {name}.trans.txt, or "
            "remove the file"
        )
    for utterance in sorted(set(transcripts) - set(audio)):
        problems.append(
            f"{chapter / utterance}.flac: missing, though it has a transcript; unpack the archive "
            "again, or remove its line"
        )
    for utterance in sorted(set(transcripts) & set(audio)):
        found.text[utterance] = transcripts[utterance]
        found.utt2spk[utterance] = chapter.parent.name
        found.audio[utterance] = audio[utterance]


def _read_transcripts(path: Path, chapter: str, problems: list[str]) -> dict[str, str]:
    if not path.is_file():
        problems.append(f"{path}: missing; unpack the archive again")
        return {}
    transcripts: dict[str, str] = {}
    for number, line in enumerate(read_lines(path), 1):
        utterance, _, words = line.partition(" ")
        where = f"{path}:{number}"
        if not re.fullmatch(re.escape(chapter) + r"-\d{4,}", utterance) or not words.strip():
            problems.append(f"{where}: not '{chapter}-NNNN WORDS': {line!r}; unpack it again")
        elif utterance in transcripts:
            problems.append(f"{where}: second transcript of {utterance}; remove one")
        elif match := _NOT_NORMALISED.search(words):
            problems.append(
                f"{where}: {match[0]!r} in the transcript of {utterance}; the corpus has only A to "
                "Z and the apostrophe"
            )
        else:
            transcripts[utterance] = " ".join(words.split())
    return transcripts
