"""A hash table from states and labels to rows: open addressing in two arrays.

Shapes: H places, a power of two; a free one has the key -1.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from espnet_plugin.search.beam.history import _FACTOR

FREE_KEY = -1


@njit(error_model="numpy")  # type: ignore[untyped-decorator]
def extend_key(key: int, label: int) -> int:
    """See :func:`espnet_plugin.search.beam.history.extend_key`."""
    mixed = (key * _FACTOR) ^ label
    return mixed ^ (mixed >> 29)


@njit(error_model="numpy")  # type: ignore[untyped-decorator]
def find(keys: Any, values: Any, key: int) -> int:
    """The value of a key, -1 if it is not there."""
    mask = keys.shape[0] - 1
    place = extend_key(key, 0) & mask
    while keys[place] != FREE_KEY:
        if keys[place] == key:
            return int(values[place])
        place = (place + 1) & mask
    return -1


@njit(error_model="numpy")  # type: ignore[untyped-decorator]
def put(keys: Any, values: Any, new_keys: Any, new_values: Any) -> None:
    """Adds pairs [M] whose keys are not there yet; there must be room."""
    mask = keys.shape[0] - 1
    for i in range(new_keys.shape[0]):
        place = extend_key(new_keys[i], 0) & mask
        while keys[place] != FREE_KEY:
            place = (place + 1) & mask
        keys[place], values[place] = new_keys[i], new_values[i]


class HashTable:
    """int64 keys, none negative, to int64 values."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Forget everything."""
        self._used = 0
        self._make(1024)

    def _make(self, size: int) -> None:
        self.keys = np.full(size, FREE_KEY, dtype=np.int64)
        self.values = np.zeros(size, dtype=np.int64)

    def add(self, keys: Any, values: Any) -> None:
        """New pairs [M]; at least half of the table stays free."""
        self._used += len(keys)
        if 2 * self._used > len(self.keys):
            old = self.keys != FREE_KEY
            kept = self.keys[old], self.values[old]
            self._make(1 << (4 * self._used - 1).bit_length())
            put(self.keys, self.values, *kept)
        put(self.keys, self.values, keys, values)
