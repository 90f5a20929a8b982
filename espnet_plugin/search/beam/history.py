"""Who came from whom: label histories of a beam as a tree, and their identity as hash keys.

Shapes: R rows (hypotheses of all utterances).
"""

from __future__ import annotations

import torch
from torch import Tensor

ROOT_KEY = 0x5DEECE66D
NO_KEY = -1
_FACTOR = 0xBF58476D1CE4E5B9 - 2**64  # an odd 64-bit constant as a signed integer


def extend_key(key: Tensor, label: Tensor) -> Tensor:
    """Key of a sequence that is one label longer. [R], [R] -> [R] int64.

    A 64-bit hash of the whole sequence: two different sequences of a beam share one with
    probability 2^-64, which is what "equal label sequence" means throughout the search.
    """
    # The key is multiplied first: ``label`` may be a key too, and equal ones must not cancel out.
    mixed = (key * _FACTOR).bitwise_xor_(label)
    return mixed ^ (mixed >> 29)


class HistoryTree:
    """Labels and emission frames of all hypotheses ever alive; node 0 is the empty history."""

    def __init__(self, device: torch.device) -> None:
        root = torch.zeros(1, dtype=torch.int64, device=device)
        self._parents, self._labels, self._frames = [root - 1], [root - 1], [root - 1]
        self._size = 1

    def add(
        self, node: Tensor, parent: Tensor, label: Tensor, frame: Tensor, new: Tensor
    ) -> Tensor:
        """Nodes [R] of the next step: a fresh one below ``parent`` where ``new``, else ``node``.

        ``frame`` [B]: the frame every utterance is in; its R / B rows stand together.
        """
        rows = node.shape[0]
        fresh = torch.arange(self._size, self._size + rows, device=node.device)
        self._size += rows
        self._parents.append(parent)
        self._labels.append(label)
        self._frames.append(frame[:, None].expand(-1, rows // frame.shape[0]).flatten())
        return torch.where(new, fresh, node)

    def read(self, nodes: Tensor) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
        """(labels, frames) of each of the nodes [R]."""
        parents, labels = torch.cat(self._parents), torch.cat(self._labels)
        frames = torch.cat(self._frames)
        columns: list[tuple[Tensor, Tensor]] = []
        alive = nodes.clamp_min(0)
        while bool((alive > 0).any()):
            columns.append((labels[alive], frames[alive]))  # -1 once the root is reached
            alive = parents[alive].clamp_min(0)
        if not columns:
            return [((), ())] * len(nodes)
        label_rows = torch.stack([c[0] for c in reversed(columns)], 1).tolist()
        frame_rows = torch.stack([c[1] for c in reversed(columns)], 1).tolist()
        return [
            (tuple(v for v in row if v >= 0), tuple(t for t in times if t >= 0))
            for row, times in zip(label_rows, frame_rows, strict=True)
        ]
