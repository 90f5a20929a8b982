"""SphinxTrain cepstra (``.mfc``), the form of AN4 that CMU distributes beside the audio.

A file is a big-endian int32, the number of floats, followed by that many big-endian float32:
13 cepstra per 10 ms frame.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

CEPSTRA = 13


def read_mfc(path: Path) -> np.ndarray:
    """Read one file into float32 [T, 13].

    Raises:
        ValueError: empty, truncated, not a whole number of frames, or not finite.
    """
    data = path.read_bytes()
    if len(data) < 4:
        raise ValueError(f"{path}: {len(data)} bytes, too short for a header")
    announced = int.from_bytes(data[:4], "big", signed=True)
    held, rest = divmod(len(data) - 4, 4)
    if announced != held or rest:
        kind = "truncated" if held < announced else "not a big-endian .mfc file"
        raise ValueError(f"{path}: {kind}: header says {announced} floats, file holds {held}")
    if announced == 0 or announced % CEPSTRA:
        raise ValueError(f"{path}: {announced} floats are not frames of {CEPSTRA} cepstra")
    matrix = np.frombuffer(data, dtype=">f4", offset=4).astype(np.float32)
    if not np.isfinite(matrix).all():
        raise ValueError(f"{path}: holds values that are not finite")
    return matrix.reshape(-1, CEPSTRA)  # [T, 13]
