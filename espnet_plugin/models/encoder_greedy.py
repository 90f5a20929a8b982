"""Greedy decoding of an encoder's output layer.

Shape legend: B batch, T encoder frames, V vocabulary with blank.
"""

from __future__ import annotations

from torch import Tensor


def best_symbols(
    logits: Tensor, lengths: Tensor, blank: int, merge: bool
) -> list[tuple[list[int], float]]:
    """Label sequence and path score of the best symbol per frame.

    Args:
        logits: [B, T, V].
        lengths: [B].
        blank: index of the blank.
        merge: repetitions are one label (label loops).
    """
    scores, best = logits.log_softmax(-1).max(-1)  # [B, T]
    found = []
    for row, score, length in zip(best.tolist(), scores.tolist(), lengths.tolist(), strict=True):
        symbols = row[:length]
        kept = [
            symbol
            for index, symbol in enumerate(symbols)
            if symbol != blank and not (merge and index and symbols[index - 1] == symbol)
        ]
        found.append((kept, sum(score[:length])))
    return found
