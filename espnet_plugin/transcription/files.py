"""Which files to transcribe, and where their transcripts go."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from espnet_plugin.transcription.audio import SUFFIXES


@dataclass(frozen=True)
class Source:
    """An audio file, and its transcripts' path without ending, below the output folder."""

    path: Path
    output: Path


def find_sources(given: Sequence[Path]) -> list[Source]:
    """The files given by name, and all audio files below the folders given.

    Transcripts of a folder's files lie as the files do in it.

    Raises:
        ValueError: a folder without audio, or two files whose transcripts would have one name.
    """
    sources = []
    for path in given:
        if not path.is_dir():
            sources.append(Source(path, Path(path.stem)))
            continue
        found = sorted(p for p in path.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
        if not found:
            raise ValueError(
                f"{path}: no audio file in this folder ({', '.join(sorted(SUFFIXES))})"
            )
        sources += [Source(p, p.relative_to(path).with_suffix("")) for p in found]
    taken: dict[Path, Path] = {}
    for source in sources:
        other = taken.setdefault(source.output, source.path)
        if other != source.path:
            raise ValueError(
                f"the transcripts of {other} and {source.path} would both be called "
                f"{source.output}; rename one, or give the folder that holds both"
            )
    return list({source.path: source for source in sources}.values())


def is_done(source: Source, folder: Path, endings: Sequence[str]) -> bool:
    """Whether all transcripts of a file are there, none older than the file."""
    outputs = [output_path(source, folder, ending) for ending in endings]
    if not source.path.is_file() or not all(path.is_file() for path in outputs):
        return False
    return min(path.stat().st_mtime for path in outputs) >= source.path.stat().st_mtime


def output_path(source: Source, folder: Path, ending: str) -> Path:
    """Where a file's transcript of one format goes."""
    return folder / source.output.with_name(f"{source.output.name}.{ending}")
