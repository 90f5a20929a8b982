"""Who came from whom: label histories of a beam as a tree, and their identity as hash keys.

Shapes: R rows (hypotheses of all utterances).
"""

from __future__ import annotations

from collections.abc import Sequence

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


Entries = tuple[tuple[int, ...], tuple[int, ...]]


class HistoryTree:
    """Labels and emission frames of all hypotheses ever alive; node 0 is the empty history.

    Attributes:
        first_frame: what is added to the frames of new nodes.
        settled: (label, frame) of the beginning that all histories share, once `settle` was called.
    """

    def __init__(self, device: torch.device) -> None:
        self.first_frame = 0
        self.settled: list[tuple[int, int]] = []
        self._plant(torch.zeros(1, dtype=torch.int64, device=device))

    def _plant(self, root: Tensor) -> None:
        self._parents, self._labels, self._frames = [root - 1], [root - 1], [root - 1]
        self._size = 1

    def __len__(self) -> int:
        """Nodes in memory."""
        return self._size

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
        frame = frame + self.first_frame if self.first_frame else frame
        self._frames.append(frame[:, None].expand(-1, rows // frame.shape[0]).flatten())
        return torch.where(new, fresh, node)

    def read(self, nodes: Tensor) -> list[Entries]:
        """(labels, frames) of each of the nodes [R]."""
        found = self.unsettled(nodes)
        if not self.settled:
            return found
        labels, frames = zip(*self.settled, strict=True)
        return [(labels + own, frames + times) for own, times in found]

    def unsettled(self, nodes: Tensor) -> list[Entries]:
        """The same without the settled beginning."""
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

    def settle(self, nodes: Tensor, alive: Tensor) -> Tensor:
        """Forget what no living history needs.

        What the living share, from the beginning on, goes to ``settled``.

        Args:
            nodes: [R] of all rows.
            alive: [R] rows whose history will be asked for; at least one.

        Returns:
            [R] the rows' nodes from now on; 0 for the dead.
        """
        rows = [
            list(zip(*entries, strict=True)) if living else None
            for entries, living in zip(self.unsettled(nodes), alive.tolist(), strict=True)
        ]
        living_rows = [row for row in rows if row is not None]
        common = shared_length(living_rows)
        self.settled += living_rows[0][:common]
        number: dict[tuple[int, tuple[int, int]], int] = {}  # (parent, entry) -> node
        new = []
        for row in rows:
            node = 0
            for entry in row[common:] if row is not None else ():
                node = number.setdefault((node, entry), len(number) + 1)
            new.append(node)
        self._plant(nodes.new_zeros(1))
        if number:
            nodes_of = [(parent, *entry) for parent, entry in number]
            for part, values in zip(
                (self._parents, self._labels, self._frames),
                torch.tensor(nodes_of, device=nodes.device).unbind(1),
                strict=True,
            ):
                part.append(values)
            self._size += len(number)
        return torch.tensor(new, device=nodes.device)


def shared_length(rows: Sequence[Sequence[object]]) -> int:
    """How long the common beginning of all of the sequences is."""
    shortest = min(len(row) for row in rows)
    first = rows[0]
    for place in range(shortest):
        if any(row[place] != first[place] for row in rows):
            return place
    return shortest
