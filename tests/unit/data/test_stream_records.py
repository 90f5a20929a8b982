"""Records of a stream: bytes there and back, and every way in which they can be wrong."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest

from espnet_plugin.data.stream.records import HEADER_BYTES, Record, encode, read_record

SAMPLES = Record(3, "ann-3", "TURN ÍT OFF", np.array([1, -2, 30000], np.int16), 16000)
FLOATS = Record(4, "ann-4", "UP", np.array([0.5, -0.25], np.float32), 8000)
FEATURES = Record(2**40, "b", "ON", np.arange(6, dtype=np.float32).reshape(3, 2))


@pytest.mark.parametrize("record", [SAMPLES, FLOATS, FEATURES])
def test_what_is_read_is_what_was_written(record: Record) -> None:
    stream = io.BytesIO(encode(record) + encode(SAMPLES))
    found = read_record(stream, record.number)
    assert found is not None
    assert (found.number, found.name, found.text, found.rate) == (
        *(record.number, record.name, record.text, record.rate),
    )
    assert found.values.dtype == record.values.dtype
    np.testing.assert_array_equal(found.values, record.values)
    assert read_record(stream, 3) is not None
    assert read_record(stream, 4) is None


def test_the_bytes_are_those_of_the_table_in_the_documents() -> None:
    """Written by hand, as a producer in another language would."""
    body = b"ann-3" + "TURN ÍT OFF".encode() + struct.pack("<3h", 1, -2, 30000)
    fields = struct.pack(
        "<4sQ7I", b"EPS1", 3, 1, 16000, 3, 1, 5, len("TURN ÍT OFF".encode()), zlib.crc32(body)
    )
    assert encode(SAMPLES) == fields + struct.pack("<I", zlib.crc32(fields)) + body
    assert len(fields) + 4 == HEADER_BYTES == 44


@pytest.mark.parametrize("length", [1, 3, 43, 44, 60])
def test_cut_anywhere_it_is_refused(length: int) -> None:
    assert length < len(encode(SAMPLES))
    with pytest.raises(ValueError, match="record 3: cut off"):
        read_record(io.BytesIO(encode(SAMPLES)[:length]), 3)


@pytest.mark.parametrize("place", [*range(4, HEADER_BYTES), HEADER_BYTES, HEADER_BYTES + 7, -1])
def test_any_changed_byte_is_found(place: int) -> None:
    content = bytearray(encode(SAMPLES))
    content[place] ^= 4
    with pytest.raises(ValueError, match=r"record 3: .*checksum"):
        read_record(io.BytesIO(bytes(content)), 3)


def test_other_output_is_shown() -> None:
    with pytest.raises(ValueError, match=r"record 0: begins with b'Loading voices.*standard error"):
        read_record(io.BytesIO(b"Loading voices, please wait, it takes a while ...\n"), 0)


def with_fields(*fields: int, body: bytes = b"") -> bytes:
    header = struct.pack("<4sQ7I", b"EPS1", 3, *fields, zlib.crc32(body))
    return header + struct.pack("<I", zlib.crc32(header)) + body


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (with_fields(9, 16000, 1, 1, 1, 1), "kind 9"),
        (with_fields(1, 0, 1, 1, 1, 1), "rate 0"),
        (with_fields(3, 16000, 1, 1, 1, 1), "rate 16000"),
        (with_fields(1, 16000, 4, 2, 1, 1), "width 2"),
        (with_fields(1, 16000, 0, 1, 1, 1), "no samples"),
        (with_fields(1, 16000, 2**31, 1, 1, 1), "too large"),
        (with_fields(1, 16000, 1, 1, 2**31, 1), "too large"),
        (with_fields(1, 16000, 1, 1, 1, 1, body=b"\xff\xfeAB"), "not UTF-8"),
    ],
)
def test_fields_that_make_no_sense(content: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=f"record 3: .*{message}"):
        read_record(io.BytesIO(content), 3)


@pytest.mark.parametrize(
    ("values", "rate", "message"),
    [
        (np.zeros(3), 16000, "not float64"),
        (np.zeros((3, 2), np.int16), 16000, "are expected"),
        (np.zeros(3, np.int16), 0, "sampling rate"),
        (np.zeros((3, 2), np.float32), 100, "sampling rate"),
    ],
)
def test_what_is_no_record_is_not_written(values: np.ndarray, rate: int, message: str) -> None:
    with pytest.raises(ValueError, match=f"record 5 .u5.: .*{message}"):
        encode(Record(5, "u5", "A", values, rate))
