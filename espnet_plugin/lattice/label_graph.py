"""Label sequences with alternatives: the pronunciation variants of each word, as a graph of labels.

A node is one label of one variant of one word. From the last label of every variant of a word one
comes to the first label of every variant of the next. Strictly monotonic topology (one label or
blank per frame, no label loop), with α[0, start] = 0:

    α[t+1, n] = logadd( α[t, n] + log p(ε|t),  logadd_{m before n} α[t, m] + log p(a_n|t) )

Shapes: B utterances, N nodes, P nodes that may come before one, T frames. In the state axis [N+2]
0 is the start, node n is n + 1, and the last one is none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

Variants = Sequence[Sequence[int]]  # label sequences of one word
_NONE = -1e30  # finite, so that gradients of impossible paths are 0 and not NaN


@dataclass(frozen=True)
class LabelGraph:
    """Graphs of a batch of utterances.

    Attributes:
        labels: label of each node, 0 beyond an utterance's own, int64 [B, N].
        before: states that may come before it, filled up with N + 1, int64 [B, N, P].
        final: states in which the utterance may end, bool [B, N + 2].
        word: number of the word that a node belongs to, and
        variant: of its variant, both -1 beyond the utterance's own, int64 [B, N].
    """

    labels: Tensor
    before: Tensor
    final: Tensor
    word: Tensor
    variant: Tensor

    def arcs(self, log_probs: Tensor) -> Tensor:
        """log p(a_n | t) from log p(v | t): [B, T, V] -> [B, T, N]."""
        batch, frames, _ = log_probs.shape
        return log_probs.gather(2, self.labels[:, None].expand(batch, frames, -1))


def make_graph(utterances: Sequence[Sequence[Variants]], device: torch.device) -> LabelGraph:
    """The graph of each utterance's words.

    Raises:
        ValueError: a word without variants, or a variant without labels.
    """
    built = [_nodes(words) for words in utterances]
    count = max((len(nodes) for nodes, _ in built), default=0)
    width = max((len(node[1]) for nodes, _ in built for node in nodes), default=1)
    batch, none = len(built), count + 1
    labels = torch.zeros(batch, count, dtype=torch.long)
    before = torch.full((batch, count, width), none, dtype=torch.long)
    final = torch.zeros(batch, count + 2, dtype=torch.bool)
    places = torch.full((2, batch, count), -1, dtype=torch.long)
    for b, (nodes, ends) in enumerate(built):
        final[b, ends] = True
        for n, (label, states, word, variant) in enumerate(nodes):
            labels[b, n] = label
            before[b, n, : len(states)] = torch.tensor(states)
            places[:, b, n] = torch.tensor([word, variant])
    parts = (labels, before, final, places[0], places[1])
    return LabelGraph(*(part.to(device) for part in parts))


def _nodes(words: Sequence[Variants]) -> tuple[list[tuple[int, list[int], int, int]], list[int]]:
    """(label, states before, word, variant) of every node, and the states of the end."""
    nodes: list[tuple[int, list[int], int, int]] = []
    ends = [0]
    for word, variants in enumerate(words):
        if not variants or not all(variants):
            raise ValueError(f"word {word}: every word needs variants, and each of them labels")
        after = []
        for number, variant in enumerate(variants):
            states = ends
            for label in variant:
                nodes.append((label, states, word, number))
                states = [len(nodes)]
            after += states
        ends = after
    return nodes, ends


def graph_log_prob(blank: Tensor, arcs: Tensor, lengths: Tensor, graph: LabelGraph) -> Tensor:
    """Sum over all variants and alignments.

    Args:
        blank: log p(ε | t), [B, T].
        arcs: log p(a_n | t), [B, T, N].
        lengths: frames of each utterance, [B].

    Returns:
        log P, [B]; -inf (with gradient 0) where no path fits.
    """
    batch, frames, nodes = arcs.shape
    alpha = arcs.new_full((batch, nodes + 2), _NONE)
    alpha[:, 0] = 0.0
    edge = alpha[:, :1] * 0.0 + _NONE
    flat = graph.before.flatten(1)  # [B, N * P]
    for t in range(frames):
        entering = alpha.gather(1, flat).view_as(graph.before).logsumexp(2) + arcs[:, t]  # [B, N]
        stay = alpha + blank[:, t, None]
        moved = torch.logaddexp(stay[:, 1:-1], entering)
        new = torch.cat([stay[:, :1], moved, edge], 1)
        alpha = torch.where((t < lengths)[:, None], new, alpha)
    total = alpha.masked_fill(~graph.final, _NONE).logsumexp(1)  # [B]
    return total.masked_fill(total < 0.5 * _NONE, -torch.inf)


@torch.no_grad()
def graph_best_path(
    blank: Tensor, arcs: Tensor, lengths: Tensor, graph: LabelGraph
) -> tuple[Tensor, Tensor]:
    """The best variants and alignment; ties prefer blank, as `best_path` does.

    Args: see :func:`graph_log_prob`.

    Returns:
        The node entered at each frame, -1 where there is none, int64 [B, T]; and the path's score
        [B], -inf where no path fits.
    """
    batch, frames, nodes = arcs.shape
    delta = arcs.new_full((batch, nodes + 2), _NONE)
    delta[:, 0] = 0.0
    flat = graph.before.flatten(1)
    origin = torch.full((frames, batch, nodes + 2), -1, dtype=torch.long, device=arcs.device)
    for t in range(frames):
        best, place = delta.gather(1, flat).view_as(graph.before).max(2)  # [B, N]
        entering = best + arcs[:, t]
        stay = delta + blank[:, t, None]
        stay[:, -1] = _NONE
        inside = (t < lengths)[:, None]
        comes = (entering > stay[:, 1:-1]) & inside  # [B, N]
        source = graph.before.gather(2, place[..., None]).squeeze(2)
        origin[t, :, 1:-1] = torch.where(comes, source, -1)
        stay[:, 1:-1] = torch.maximum(stay[:, 1:-1], entering)
        delta = torch.where(inside, stay, delta)
    score, state = delta.masked_fill(~graph.final, _NONE).max(1)  # [B]
    entered = torch.full((batch, frames), -1, dtype=torch.long, device=arcs.device)
    for t in range(frames - 1, -1, -1):
        source = origin[t].gather(1, state[:, None]).squeeze(1)
        entered[:, t] = torch.where(source >= 0, state - 1, -1)
        state = torch.where(source >= 0, source, state)
    possible = score > 0.5 * _NONE
    return entered.masked_fill(~possible[:, None], -1), score.masked_fill(~possible, -torch.inf)
