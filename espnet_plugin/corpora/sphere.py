"""NIST SPHERE headers, checked before anything trusts a recording.

libsndfile (hence ESPnet) reads SPHERE files of PCM, mu-law and A-law samples in any number of
channels, so the recordings stay where they are; this only finds the files that would fail hours
later. Files that LDC compressed with Shorten have to be expanded first, see `sphere_decoder`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

_SHORTEN = "embedded-shorten"


@dataclass(frozen=True)
class Sphere:
    """What a SPHERE header says.

    Attributes:
        header_bytes: where the samples begin.
        sample_rate: in Hz.
        channels: how many.
        samples: per channel.
        sample_bytes: of one sample.
        coding: ``pcm``, ``ulaw``, ``alaw``, ..., followed by ``,embedded-shorten-v2.00`` if the
            samples are compressed.
    """

    header_bytes: int
    sample_rate: int
    channels: int
    samples: int
    sample_bytes: int
    coding: str

    @property
    def compressed(self) -> bool:
        """Whether the samples are in Shorten's format, which libsndfile does not read."""
        return _SHORTEN in self.coding

    @property
    def seconds(self) -> float:
        """Duration."""
        return self.samples / self.sample_rate


def read_header(path: Path) -> dict[str, str]:
    """Read the fields of a SPHERE header, with ``header_bytes`` added.

    Raises:
        ValueError: the file is no SPHERE file, or ends inside its header.
    """
    with path.open("rb") as file:
        first = file.read(16)
        size = first[8:].strip()
        if first[:8] != b"NIST_1A\n" or not size.isdigit():
            raise ValueError(f"{path}: not a NIST SPHERE file")
        text = file.read(int(size) - 16).decode("ascii", "replace")
    fields = {"header_bytes": size.decode()}
    for line in text.splitlines() if len(text) == int(size) - 16 else ():
        if line.strip() == "end_head":
            return fields
        parts = line.split(None, 2)
        if len(parts) == 3:
            fields[parts[0]] = parts[2].strip()
    raise ValueError(f"{path}: SPHERE header without its end, the file is truncated; copy it again")


def _number(path: Path, fields: dict[str, str], name: str, default: int) -> int:
    value = fields.get(name, str(default))
    if not value.isdigit():
        raise ValueError(f"{path}: {name} is {value!r}, not a number")
    return int(value)


def check_sphere(
    path: Path, sample_rate: int, *, channels: int = 1, allow_compressed: bool = False
) -> Sphere:
    """Return the header of a usable recording.

    Args:
        path: the file.
        sample_rate: in Hz, that it has to have.
        channels: that it has to have.
        allow_compressed: accept Shorten's compression, whose length cannot be checked.

    Raises:
        ValueError: another sampling rate or number of channels, compressed, empty, or truncated.
    """
    fields = read_header(path)
    header = Sphere(
        header_bytes=int(fields["header_bytes"]),
        sample_rate=_number(path, fields, "sample_rate", 0),
        channels=_number(path, fields, "channel_count", 1),
        samples=_number(path, fields, "sample_count", 0),
        sample_bytes=_number(path, fields, "sample_n_bytes", 2),
        coding=fields.get("sample_coding", "pcm"),
    )
    if header.sample_rate != sample_rate:
        raise ValueError(
            f"{path}: sampling rate {header.sample_rate} Hz, expected {sample_rate} Hz; "
            "is this a file of another corpus, or a converted copy?"
        )
    if header.compressed and not allow_compressed:
        raise ValueError(f"{path}: coding {header.coding}; convert it to PCM with sph2pipe first")
    if header.coding.split(",")[0] not in ("pcm", "ulaw", "mu-law", "alaw"):
        raise ValueError(f"{path}: coding {header.coding}; convert it to PCM with sph2pipe first")
    if header.channels != channels:
        wanted = "one" if channels == 1 else str(channels)
        raise ValueError(f"{path}: {header.channels} channels, expected {wanted}")
    if header.samples == 0:
        raise ValueError(f"{path}: holds no sample; copy it again")
    if not header.compressed:
        held = path.stat().st_size - header.header_bytes
        announced = header.samples * header.sample_bytes * header.channels
        if held < announced:
            raise ValueError(
                f"{path}: truncated: header says {announced} bytes, file holds {held}; "
                "copy it again"
            )
    return header
