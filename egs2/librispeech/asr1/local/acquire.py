"""Get the audio and the language resources: from folders that are there, or from OpenSLR."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import openslr
import parts
from openslr import Resource

from espnet_plugin.corpora.corpus_error import CorpusError
from espnet_plugin.corpora.disk_space import require_space
from espnet_plugin.corpora.download import unpack

LIBRISPEECH = "LibriSpeech"


@dataclass(frozen=True)
class Source:
    """Where things come from.

    Attributes:
        corpus: the user's copy of the corpus; None: download it.
        resources: the user's folder with the files of OpenSLR 11; None: download them.
        downloads: what is downloaded goes here.
        mirrors: addresses in front of ``/12/dev-clean.tar.gz``.
        checksums: of the user's, by file name.
        remove_archives: delete an archive once it is unpacked.
    """

    corpus: Path | None
    resources: Path | None
    downloads: Path
    mirrors: Sequence[str]
    checksums: Mapping[str, str]
    remove_archives: bool = False


def acquire(
    source: Source, wanted: Sequence[str], resources: Sequence[Resource], also: int = 0
) -> tuple[Path, dict[str, Path]]:
    """Return the folder of the parts, and the path of each resource by its name.

    What the user says is there is looked for first, and the disk is measured, so that nothing
    that can be known now fails after hours of downloading.

    Args:
        wanted: parts of the corpus.
        resources: files of OpenSLR 11.
        also: bytes that will be written beside them.

    Raises:
        ValueError: something is not where the user says, a checksum is wrong, the disk is too full.
        OSError: no mirror can be reached.
    """
    root = source.downloads / LIBRISPEECH
    problems = []
    if source.corpus is not None:
        root = parts.find_root(source.corpus.absolute())
        problems += parts.missing_parts(root, wanted)
    given = {}
    if source.resources is not None:
        given, lacking = _find_resources(source.resources.absolute(), resources)
        problems += lacking
    if problems:
        raise CorpusError(source.corpus or source.downloads, LIBRISPEECH, problems)
    absent = [] if source.corpus else [part for part in wanted if not (root / part).is_dir()]
    to_fetch = [] if source.resources else list(resources)
    require_space(source.downloads, _bytes_needed(source, absent, to_fetch) + also, "corpus")
    for resource in to_fetch:  # small things first: a wrong proxy shows at once
        fetched = openslr.fetch(resource, source.downloads, source.mirrors, source.checksums)
        given[resource.name] = fetched.absolute()
    for part in absent:
        _fetch_part(source, part, root)
    return root.absolute(), given


def _find_resources(
    folder: Path, resources: Sequence[Resource]
) -> tuple[dict[str, Path], list[str]]:
    found = {r.name: folder / r.name for r in resources if (folder / r.name).is_file()}
    lacking = [
        f"{folder / r.name}: missing; fetch it from OpenSLR {r.number}, or leave --lm_resources out"
        for r in resources
        if r.name not in found
    ]
    return found, lacking


def _bytes_needed(source: Source, absent: Sequence[str], resources: Sequence[Resource]) -> int:
    """What is still to come, and what it takes unpacked: FLAC is as large outside its archive."""

    def to_come(resource: Resource) -> int:
        target = source.downloads / resource.name
        partial = target.with_name(target.name + ".partial")
        there = sum(path.stat().st_size for path in (target, partial) if path.is_file())
        size = openslr.with_checksum(resource, source.checksums).size or 0
        return max(0, size - there)

    audio = [openslr.AUDIO[part] for part in absent]
    unpacked = sum(openslr.with_checksum(r, source.checksums).size or 0 for r in audio)
    archives = [to_come(resource) for resource in audio]
    held = max(archives, default=0) if source.remove_archives else sum(archives)
    return held + unpacked + sum(to_come(resource) for resource in resources)


def _fetch_part(source: Source, part: str, root: Path) -> None:
    """Fetch and unpack one part; its folder appears in `root` only when it is whole."""
    archive = openslr.fetch(openslr.AUDIO[part], source.downloads, source.mirrors, source.checksums)
    logging.info("%s: unpacking", archive)
    unpacked = unpack(archive, source.downloads / f"{part}.unpacked")
    inside = unpacked / LIBRISPEECH
    if not (inside / part).is_dir():
        raise ValueError(
            f"{archive}: holds no {LIBRISPEECH}/{part}; it is another archive under this name"
        )
    root.mkdir(parents=True, exist_ok=True)
    for document in inside.glob("*.TXT"):  # the same in every archive
        os.replace(document, root / document.name)
    os.replace(inside / part, root / part)
    shutil.rmtree(unpacked)
    if source.remove_archives:
        archive.unlink()
