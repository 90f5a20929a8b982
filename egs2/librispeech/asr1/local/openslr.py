"""What OpenSLR offers for LibriSpeech (resources 11 and 12): names, sizes, checksums, mirrors.

Where the checksums come from:

- Resource 12 (audio): its own ``md5sum.txt``; the sizes in bytes are the archives'.
- Resource 11 (lexicon, language models) publishes none. The MD5 values are those that pydrobert's
  asr-baselines check downloads against (the one of the text also CAT's recipe), the SHA-256 values
  those of RWTH's i6_experiments. Its sizes are the page's, rounded up.

A file of yours in the form of ``md5sum`` overrides any of them (``--checksums``), should OpenSLR
ever publish corrected files.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from espnet_plugin.corpora.download import download
from espnet_plugin.corpora.text_lines import read_lines

MIRRORS = (
    "https://www.openslr.org/resources",
    "https://us.openslr.org/resources",
    "https://openslr.elda.org/resources",
)


@dataclass(frozen=True)
class Resource:
    """One file: its number and name at OpenSLR, its size in bytes and its checksums."""

    number: int
    name: str
    size: int | None
    md5: str | None
    sha256: str | None = None


def _audio(part: str, size: int, md5: str) -> tuple[str, Resource]:
    return part, Resource(12, f"{part}.tar.gz", size, md5)


AUDIO = dict(
    (
        _audio("dev-clean", 337926286, "42e2234ba48799c1f50f24a7926300a1"),
        _audio("dev-other", 314305928, "c8d0bcc9cca99d4f8b62fcc847357931"),
        _audio("test-clean", 346663984, "32fa31d27d2e1cad72775fee3f4849a9"),
        _audio("test-other", 328757843, "fb5a50374b501bb3bac4815ee91d3135"),
        _audio("train-clean-100", 6387309499, "2a93770f6d5c6c964bc36631d331a522"),
        _audio("train-clean-360", 23049477885, "c0e676e450a7ff2f54aeade5171606fa"),
        _audio("train-other-500", 30593501606, "d1a0fd59409feb2c614ce4d30c387708"),
    )
)
LEXICON = Resource(
    11,
    "librispeech-lexicon.txt",
    5_700_000,
    "28f72663f6bfed7cd346283c064c315b",
    "d722bc29908cd338ae738edd70f61826a6fca29aaa704a9493f0006773f79d71",
)
WORD_LMS = {
    "4-gram": Resource(
        11,
        "4-gram.arpa.gz",
        1_450_000_000,
        "6abdcd5b055bd482e4f9defe91d40408",
        "f2b2d1507637ddf459d3579159f7e8099ed7d77452ff1059aeeeaea33d274613",
    ),
    "3-gram": Resource(
        11,
        "3-gram.arpa.gz",
        761_000_000,
        "74cbb837e582378c26c602e1c8cbcb9c",
        "263649573475c2991d3e755eb4e690c9d2656f2b3283a1eb589e1e4e174bf874",
    ),
    "3-gram.pruned.1e-7": Resource(
        11, "3-gram.pruned.1e-7.arpa.gz", 36_000_000, "9a0f1325bcaf3a0f7b7be4be10823c2a"
    ),
    "3-gram.pruned.3e-7": Resource(
        11, "3-gram.pruned.3e-7.arpa.gz", 15_000_000, "8f67ec741827742eee05799ab7605b50"
    ),
}
LM_TEXT = Resource(
    11, "librispeech-lm-norm.txt.gz", 1_560_000_000, "c83c64c726a1aedfe65f80aa311de402"
)
# 40,418,261 lines; the page gives 4.3 GB unpacked, and every line gets an utterance id in front.
LM_TEXT_UNPACKED = 5_300_000_000


def read_checksums(path: Path) -> dict[str, str]:
    """Read lines ``<md5> <name>``, as ``md5sum`` writes them.

    Raises:
        ValueError: the file is missing, or a line is not of that form.
    """
    if not path.is_file():
        raise ValueError(f"--checksums {path}: no such file")
    checksums = {}
    for number, line in enumerate(read_lines(path), 1):
        match = re.fullmatch(r"([0-9a-fA-F]{32}) [ *]?(\S+)", line.strip())
        if match is None:
            raise ValueError(f"{path}:{number}: not '<md5>  <name>': {line!r}")
        checksums[match[2]] = match[1].lower()
    return checksums


def with_checksum(resource: Resource, checksums: Mapping[str, str]) -> Resource:
    """Return the resource as it is when the user's checksum holds instead of ours."""
    if resource.name not in checksums:
        return resource
    return replace(resource, size=None, md5=checksums[resource.name], sha256=None)


def fetch(
    resource: Resource, directory: Path, mirrors: Sequence[str], checksums: Mapping[str, str]
) -> Path:
    """Fetch a resource into `directory`, resumed and verified.

    Raises:
        ValueError: its checksum differs at every mirror, or the disk is too full.
        OSError: no mirror can be reached.
    """
    wanted = with_checksum(resource, checksums)
    return download(
        [f"{mirror.rstrip('/')}/{wanted.number}/{wanted.name}" for mirror in mirrors],
        directory / wanted.name,
        sha256=wanted.sha256,
        md5=wanted.md5,
        size=wanted.size,
    )
