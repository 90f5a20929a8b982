"""Pronunciation variants of an utterance's words as one row of integers, for ESPnet's batches.

Layout: for each word the number of its variants, then for each variant its length and labels.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from espnet_plugin.lattice.label_graph import LabelGraph, make_graph


def pack_variants(words: Sequence[Sequence[Sequence[int]]]) -> list[int]:
    """Words, their variants, labels of each -> one row."""
    row: list[int] = []
    for variants in words:
        row.append(len(variants))
        for variant in variants:
            row += [len(variant), *variant]
    return row


def unpack_variants(row: Sequence[int]) -> list[list[list[int]]]:
    """The inverse.

    Raises:
        ValueError: the row ends too early.
    """
    numbers = iter(row)
    words: list[list[list[int]]] = []
    try:
        for count in numbers:
            words.append([[next(numbers) for _ in range(next(numbers))] for _ in range(count)])
    except (StopIteration, RuntimeError):
        raise ValueError(f"not packed pronunciation variants: {list(row)[:20]}") from None
    return words


def batch_graph(rows: Tensor, lengths: Tensor) -> LabelGraph:
    """The label graph of a batch: packed rows [B, L] and their lengths [B]."""
    pairs = zip(rows.tolist(), lengths.tolist(), strict=True)
    return make_graph([unpack_variants(row[:length]) for row, length in pairs], rows.device)
