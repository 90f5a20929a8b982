"""Label histories and their keys."""

from __future__ import annotations

import torch

from espnet_plugin.search.beam.history import ROOT_KEY, HistoryTree, extend_key


def keys_up_to(length: int, labels: int) -> torch.Tensor:
    """Keys of all sequences of at most ``length`` labels."""
    level = torch.tensor([ROOT_KEY])
    found = [level]
    for _ in range(length):
        label = torch.arange(labels).repeat(len(level))
        level = extend_key(level.repeat_interleave(labels), label)
        found.append(level)
    return torch.cat(found)


def test_different_sequences_have_different_keys() -> None:
    keys = keys_up_to(5, 12)
    assert len(keys) == sum(12**n for n in range(6)) == len(keys.unique())


def test_keys_of_keys() -> None:
    # A lexicon extends the labels' key by the words' key; for equal numbers the two are equal.
    keys = keys_up_to(3, 11)
    first, second = torch.cartesian_prod(keys, keys).unbind(1)
    both = extend_key(extend_key(first, second), torch.zeros_like(first))
    assert len(both.unique()) == len(keys) ** 2


def test_a_tree_gives_back_labels_and_frames() -> None:
    tree = HistoryTree(torch.device("cpu"))
    node = torch.zeros(4, dtype=torch.int64)  # two utterances with two rows each
    new = torch.tensor([True, True, False, True])
    node = tree.add(node, node, torch.tensor([5, 6, 7, 8]), torch.tensor([0, 3]), new)
    swapped = node[[1, 0, 2, 3]]
    new = torch.tensor([False, True, True, True])
    node = tree.add(swapped, swapped, torch.tensor([1, 2, 3, 4]), torch.tensor([2, 4]), new)
    wanted = [((6,), (0,)), ((5, 2), (0, 2)), ((3,), (4,)), ((8, 4), (3, 4))]
    assert tree.read(node) == wanted
    assert tree.read(torch.zeros(1, dtype=torch.int64)) == [((), ())]
