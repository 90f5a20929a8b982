"""Whether an Ogg file (Opus, Vorbis, FLAC in Ogg) is whole.

A file that was cut off decodes without complaint to fewer samples, since its length is nowhere but
in its last page; the pages themselves tell (RFC 3533, 6).
"""

from __future__ import annotations

from pathlib import Path

_HEADER = 27  # bytes of a page before its table of segments
_LAST_PAGE = 4  # bit of the header type


def check_ogg(path: Path) -> None:
    """Walk over the pages of a file of one stream.

    Raises:
        ValueError: no Ogg file, cut off in a page, or its last page does not end the stream.
    """
    data = path.read_bytes()
    place, last = 0, False
    while place < len(data):
        if data[place : place + 4] != b"OggS":
            kind = "damaged" if place else "not an Ogg file"
            raise ValueError(f"{path}: {kind} (no page at byte {place}); copy it again")
        segments = data[place + _HEADER - 1] if place + _HEADER <= len(data) else 0
        body = data[place + _HEADER : place + _HEADER + segments]
        end = place + _HEADER + segments + sum(body)
        if not segments or len(body) < segments or end > len(data):
            raise ValueError(f"{path}: cut off in the page at byte {place}; copy it again")
        last = bool(data[place + 5] & _LAST_PAGE)
        place = end
    if not last:
        raise ValueError(f"{path}: cut off before the stream's last page; copy it again")
