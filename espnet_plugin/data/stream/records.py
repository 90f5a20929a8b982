"""The bytes of a record, which a producer writes to its standard output (docs/data.md, "Streams").

A header of 44 bytes, then the utterance's id and its transcript in UTF-8, then samples or features.
All numbers are little-endian. The header ends in a checksum of its own, so that no length is
believed that was not written; it holds the checksum of what follows it.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np

MAGIC = b"EPS1"
#: magic, number, kind, rate, rows, width, bytes of the id, bytes of the text, checksum of the rest
_FIELDS = struct.Struct("<4sQIIIIIII")
_SUM = struct.Struct("<I")
HEADER_BYTES = _FIELDS.size + _SUM.size
INT16, FLOAT32, FEATURES = 1, 2, 3
#: kind -> type of the values
TYPES = {INT16: "<i2", FLOAT32: "<f4", FEATURES: "<f4"}
_LONGEST_ID, _LONGEST_TEXT = 1 << 12, 1 << 20
_MOST_VALUES = 1 << 28  # of a record: a gigabyte, 4.6 hours at 16 kHz


class CutOff(ValueError):
    """The stream ended within a record."""


@dataclass(frozen=True, eq=False)
class Record:
    """One utterance.

    Attributes:
        number: of records before it in the stream, that is, what `--skip` would pass over.
        name: the utterance's id.
        text: its transcript.
        values: samples [T] as int16 or as float32 in -1..1, or features [T', D] as float32.
        rate: sampling rate in Hz; 0 for features.
    """

    number: int
    name: str
    text: str
    values: np.ndarray
    rate: int = 0

    @property
    def place(self) -> str:
        """For messages."""
        return f"record {self.number} ({self.name})"


def encode(record: Record) -> bytes:
    """The bytes of a record.

    Raises:
        ValueError: its values are neither samples nor features, or it is too large.
    """
    values = record.values
    kind = INT16 if values.dtype == np.int16 else FLOAT32 if values.ndim == 1 else FEATURES
    samples = kind != FEATURES
    if values.dtype not in (np.int16, np.float32) or values.ndim != (1 if samples else 2):
        raise ValueError(
            f"{record.place}: samples [T] as int16 or float32, or features [T, D] as float32, are "
            f"expected, not {values.dtype} {list(values.shape)}"
        )
    if samples != (record.rate > 0):
        raise ValueError(f"{record.place}: samples have a sampling rate, features have rate 0")
    name, text = record.name.encode(), record.text.encode()
    if len(name) > _LONGEST_ID or len(text) > _LONGEST_TEXT or values.size > _MOST_VALUES:
        raise ValueError(f"{record.place}: too large for one record")
    body = name + text + values.astype(TYPES[kind]).tobytes()
    rows, width = len(values), 1 if samples else values.shape[1]
    lengths = (rows, width, len(name), len(text), zlib.crc32(body))
    header = _FIELDS.pack(MAGIC, record.number, kind, record.rate, *lengths)
    return b"".join((header, _SUM.pack(zlib.crc32(header)), body))


def write_record(stream: BinaryIO, record: Record) -> None:
    """Write a record, as a producer does into ``sys.stdout.buffer``."""
    stream.write(encode(record))
    stream.flush()


def read_record(stream: BinaryIO, expected: int) -> Record | None:
    """The next record; None where the stream ends between two of them.

    Args:
        expected: number that it should have, for messages.

    Raises:
        CutOff: the stream ends within it.
        ValueError: it is damaged, or no record at all.
    """
    header = stream.read(HEADER_BYTES)
    if not header:
        return None
    where = f"record {expected}"
    if not header.startswith(MAGIC[: len(header)]):
        raise ValueError(
            f"{where}: begins with {header[:16]!r}, not with {MAGIC!r}; nothing but records may go "
            "to the producer's standard output, messages go to standard error"
        )
    if len(header) < HEADER_BYTES:
        raise CutOff(f"{where}: cut off, {len(header)} of the header's {HEADER_BYTES} bytes")
    if _SUM.unpack(header[_FIELDS.size :])[0] != zlib.crc32(header[: _FIELDS.size]):
        raise ValueError(f"{where}: its header is damaged (checksum)")
    _, number, kind, rate, rows, width, name_bytes, text_bytes, checksum = _FIELDS.unpack(
        header[: _FIELDS.size]
    )
    if kind not in TYPES or (kind == FEATURES) != (rate == 0) or (kind != FEATURES and width != 1):
        raise ValueError(f"{where}: kind {kind}, rate {rate}, width {width} do not go together")
    if rows * width == 0:
        raise ValueError(f"{where}: no samples or features in it")
    if name_bytes > _LONGEST_ID or text_bytes > _LONGEST_TEXT or rows * width > _MOST_VALUES:
        raise ValueError(f"{where}: {name_bytes}, {text_bytes} bytes, {rows} x {width}: too large")
    size = name_bytes + text_bytes + rows * width * np.dtype(TYPES[kind]).itemsize
    body = stream.read(size)
    if len(body) < size:
        raise CutOff(f"{where}: cut off, {len(body)} of {size} bytes after its header")
    if zlib.crc32(body) != checksum:
        raise ValueError(f"{where}: damaged on its way (checksum)")
    values = np.frombuffer(body, TYPES[kind], offset=name_bytes + text_bytes)
    try:
        name, text = body[:name_bytes].decode(), body[name_bytes:][:text_bytes].decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"{where}: id or text is not UTF-8 ({error.reason})") from error
    return Record(number, name, text, values.reshape(-1, width) if rate == 0 else values, rate)
