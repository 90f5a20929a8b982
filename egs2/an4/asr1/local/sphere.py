"""NIST SPHERE headers, checked before anything trusts a recording.

libsndfile (hence ESPnet) reads PCM SPHERE files itself, so the recordings stay where they are;
this only finds the files that would fail hours later.
"""

from __future__ import annotations

from pathlib import Path


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
    for line in text.splitlines():
        if line.strip() == "end_head":
            return fields
        parts = line.split(None, 2)
        if len(parts) == 3:
            fields[parts[0]] = parts[2].strip()
    raise ValueError(f"{path}: SPHERE header without its end, the file is truncated")


def _number(path: Path, fields: dict[str, str], name: str, default: int) -> int:
    value = fields.get(name, str(default))
    if not value.isdigit():
        raise ValueError(f"{path}: {name} is {value!r}, not a number")
    return int(value)


def check_sphere(path: Path, sample_rate: int) -> int:
    """Return the number of samples of a usable mono PCM recording.

    Raises:
        ValueError: another sampling rate, compressed, several channels, empty, or truncated.
    """
    fields = read_header(path)
    rate = _number(path, fields, "sample_rate", 0)
    if rate != sample_rate:
        raise ValueError(f"{path}: sampling rate {rate} Hz, expected {sample_rate} Hz")
    coding = fields.get("sample_coding", "pcm")
    if coding != "pcm":
        raise ValueError(f"{path}: coding {coding}; convert it to PCM with sph2pipe first")
    channels = _number(path, fields, "channel_count", 1)
    if channels != 1:
        raise ValueError(f"{path}: {channels} channels, expected one")
    samples = _number(path, fields, "sample_count", 0)
    if samples == 0:
        raise ValueError(f"{path}: holds no sample")
    held = path.stat().st_size - int(fields["header_bytes"])
    announced = samples * _number(path, fields, "sample_n_bytes", 2)
    if held < announced:
        raise ValueError(f"{path}: truncated: header says {announced} bytes, file holds {held}")
    return samples
