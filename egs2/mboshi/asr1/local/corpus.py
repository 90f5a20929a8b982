"""The two forms of Mboshi: where their files are, which utterances they have, what is wrong.

- repository: ``full_corpus_newsplit/{train,dev}/<utterance>.{wav,mb.cleaned}``, as the corpus was
  published;
- tar: ``{train,test}.text`` with ``<utterance> <words>`` lines and ``audio/<utterance>.opus``.

An utterance is named ``<speaker>_<time>_<device>_mdw_elicit_<list>_<number>``; speaker and time are
its recording session. What the corpus calls dev is the test set here, in both forms.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

# What the complete corpus holds; anything else is a broken copy unless a subset was asked for.
UTTERANCES = {"train": 4616, "test": 514}
# In the composed form (NFC); ε and ω are the Greek letters, as in the corpus.
ALPHABET = frozenset("abdefghiklmnoprstuvwyzáéíóúέεωώ")
REPOSITORY = "full_corpus_newsplit"

_FOLDERS = {"train": "train", "test": "dev"}  # in the repository
_TEXT = ".mb.cleaned"
_NAME = re.compile(r"(?P<session>[a-z]+_\d{4}-\d\d-\d\d-\d\d-\d\d-\d\d)_\S+_[A-Za-z]+\d+_\d+")


@dataclass
class Part:
    """The training or the test part; both tables are keyed by utterance."""

    text: dict[str, str] = field(default_factory=dict)
    audio: dict[str, Path] = field(default_factory=dict)


def session(utterance: str) -> str:
    """``abiayi_2015-09-08-11-33-57_..._Dico18_102`` -> ``abiayi_2015-09-08-11-33-57``.

    Raises:
        ValueError: the id is not of the corpus's form.
    """
    match = _NAME.fullmatch(utterance)
    if match is None:
        raise ValueError(
            f"{utterance}: not <speaker>_<date-and-time>_<device>_mdw_elicit_<list>_<number>, as "
            "utterances of the corpus are named; remove it"
        )
    return match["session"]


def find_root(directory: Path) -> tuple[Path, bool]:
    """Return the folder of the two parts, and whether it is the repository's.

    Raises:
        ValueError: it is neither `directory` nor a usual folder below or above it.
    """
    for root in (directory, directory / "mboshi"):
        if (root / "train.text").is_file() or (root / "test.text").is_file():
            return root, False
    below = (path for path in sorted(directory.iterdir()) if path.is_dir())
    for root in (directory, directory / REPOSITORY, *(path / REPOSITORY for path in below)):
        if all((root / name).is_dir() for name in _FOLDERS.values()):
            return root, True
    if directory.name in _FOLDERS.values() and directory.parent.name == REPOSITORY:
        raise ValueError(
            f"--mboshi {directory}: this is one part of it; give the folder above: "
            f"--mboshi {directory.parent}"
        )
    raise ValueError(
        f"--mboshi {directory}: neither {REPOSITORY}/{{train,dev}} nor train.text is here; give a "
        "clone of github.com/besacier/mboshi-french-parallel-corpus, or the tar of Ogg Opus files"
    )


def read_parts(root: Path, repository: bool, problems: list[str]) -> dict[str, Part]:
    """Read both parts and append to `problems` whatever has no partner or is malformed."""
    transcripts: dict[str, dict[str, tuple[str, str]]] = {}  # part, utterance: place and text
    audio: dict[str, dict[str, Path]] = {}  # part, utterance: where it should be
    there: set[Path] = set()
    for name, folder in _FOLDERS.items():
        if repository:
            transcripts[name] = _read_files(root / folder, problems)
            audio[name] = {u: root / folder / f"{u}.wav" for u in transcripts[name]}
            there |= set((root / folder).glob("*.wav"))
        else:
            transcripts[name] = _read_lines(root / f"{name}.text", problems)
            audio[name] = {u: root / "audio" / f"{u}.opus" for u in transcripts[name]}
            there |= set((root / "audio").glob("*.opus"))
    for path in sorted(there - {path for paths in audio.values() for path in paths.values()}):
        problems.append(f"{path}: audio without a transcript; fetch that, or remove the audio")
    for utterance in sorted(transcripts["train"].keys() & transcripts["test"].keys()):
        place = transcripts["test"][utterance][0]
        problems.append(f"{place}: {utterance} is in the training part as well; remove one")
    return {name: _matched(transcripts[name], audio[name], there, problems) for name in transcripts}


def check_sizes(root: Path, parts: Mapping[str, Part], problems: list[str]) -> None:
    """Compare the numbers of utterances with those of the complete corpus."""
    for name, part in parts.items():
        if len(part.text) != UTTERANCES[name]:
            problems.append(
                f"{root}: {len(part.text)} usable utterances for {name}, the corpus has "
                f"{UTTERANCES[name]}; fetch it again (--allow_subset accepts fewer)"
            )


def _matched(
    transcripts: Mapping[str, tuple[str, str]],
    audio: Mapping[str, Path],
    there: Collection[Path],
    problems: list[str],
) -> Part:
    """The utterances that have a name, a text and an audio file of the corpus's form."""
    part = Part()
    for utterance, (place, text) in sorted(transcripts.items()):
        words = " ".join(unicodedata.normalize("NFC", text).split())
        try:
            session(utterance)
            _check_words(words)
        except ValueError as error:
            problems.append(f"{place}: {error}")
            continue
        if audio[utterance] not in there:
            problems.append(
                f"{audio[utterance]}: missing, though it has a transcript; fetch it again, or "
                "remove the transcript"
            )
            continue
        part.text[utterance], part.audio[utterance] = words, audio[utterance]
    return part


def _check_words(words: str) -> None:
    """Hold a transcript in the composed form to the corpus's alphabet."""
    if not words:
        raise ValueError("no words; fetch it again, or remove it and its audio")
    strange = sorted(set(words) - ALPHABET - {" "})
    if strange:
        named = ", ".join(f"{char!r} (U+{ord(char):04X})" for char in strange)
        raise ValueError(
            f"{named} in the transcript: the corpus's cleaned text has only spaces and "
            f"{''.join(sorted(ALPHABET))}; take .mb.cleaned, and no other form of it"
        )


def _read_files(folder: Path, problems: list[str]) -> dict[str, tuple[str, str]]:
    """``<utterance>.mb.cleaned``, one a transcript: {utterance: (place, text)}."""
    paths = sorted(folder.glob("*" + _TEXT))
    texts = ((path, _decoded(path, problems)) for path in paths)
    return {p.name.removesuffix(_TEXT): (str(p), text) for p, text in texts if text is not None}


def _read_lines(path: Path, problems: list[str]) -> dict[str, tuple[str, str]]:
    """``<utterance> <words>`` lines: {utterance: (place, text)}."""
    found: dict[str, tuple[str, str]] = {}
    text = _decoded(path, problems) or ""
    for number, line in enumerate(text.splitlines(), 1):
        utterance, _, words = line.partition(" ")
        if utterance in found:
            problems.append(f"{path}:{number}: second line of {utterance}; remove one")
        elif line.strip():
            found[utterance] = (f"{path}:{number}", words)
    return found


def _decoded(path: Path, problems: list[str]) -> str | None:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        problems.append(f"{path}: missing; unpack the corpus again")
    except UnicodeDecodeError:
        problems.append(f"{path}: not UTF-8; fetch it again")
    return None
