"""SphinxTrain cepstra (``.mfc``), the form of AN4 that CMU distributes beside the audio.

A file is a big-endian int32, the number of floats, followed by that many big-endian float32:
13 cepstra per 10 ms frame.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

CEPSTRA = 13


def to_mel(cepstra: np.ndarray, channels: int) -> np.ndarray:
    """Inverse cosine transform of cepstra [T, 13] to a smooth log-mel spectrum [T, channels].

    Nothing is gained or lost but the axis: neighbouring channels are neighbouring frequencies,
    which frequency masks and vocal-tract-length perturbation need and cepstra do not offer.

    Raises:
        ValueError: fewer channels than cepstra, which would lose some.
    """
    order = cepstra.shape[1]
    if channels < order:
        raise ValueError(f"{channels} mel channels cannot hold {order} cepstra")
    index = np.arange(order)[:, None]  # [13, 1]
    basis = np.cos(np.pi * index * (np.arange(channels) + 0.5) / channels)  # [13, channels]
    basis[0] *= 0.5
    result: np.ndarray = (cepstra @ (basis * np.sqrt(2 / channels))).astype(np.float32)
    return result


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
