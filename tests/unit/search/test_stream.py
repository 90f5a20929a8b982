"""A search in blocks of frames is the search of all of them, in memory that does not grow."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch

from espnet_plugin.search import BeamOptions, BeamSearch
from espnet_plugin.search.beam.history import HistoryTree, shared_length
from espnet_plugin.search.beam.stream import BeamStream
from espnet_plugin.search.lexicon.lexicon_search import LexiconOptions, LexiconSearch
from espnet_plugin.search.lexicon.prefix_tree import PrefixTree, lexicon_entries
from tests.unit.search.test_beam import BigramScorer, Model
from tests.unit.search.test_compiled import CHOICES, assert_equal
from tests.unit.search.test_lexicon import PRONUNCIATIONS, TOKENS, WEIGHTS
from tests.unit.search.test_lexicon import Model as LexiconModel


def cut(chosen: random.Random, frames: torch.Tensor) -> list[torch.Tensor]:
    """[T, D] in blocks of random sizes, empty ones among them."""
    blocks, start = [], 0
    while start < len(frames):
        end = start + chosen.choice([0, 1, 1, 2, 3, 7])
        blocks.append(frames[start:end])
        start = end
    return blocks


def streamed(stream: BeamStream, blocks: list[torch.Tensor]) -> None:
    """Feeds everything; what is called stable must stay."""
    stable: tuple[int, ...] = ()
    for block in blocks:
        found = stream.feed(block)
        assert found.tokens[: len(stable)] == stable and found.stable >= len(stable)
        assert len(found.frames) == len(found.tokens)
        every = stream.hypotheses(nbest=100)
        assert all(h.tokens[: found.stable] == found.tokens[: found.stable] for h in every)
        stable = found.tokens[: found.stable]
    for found in stream.hypotheses(nbest=100):
        assert found.tokens[: len(stable)] == stable


@pytest.mark.parametrize("seed", range(40))
def test_blocks_of_frames_equal_all_at_once(seed: int) -> None:
    chosen = random.Random(seed)
    vocab = chosen.choice([3, 5, 9])
    model = Model(["1", "2", "3", "lstm"][seed % 4], seed=seed, vocab=vocab)
    scorers = [(BigramScorer(vocab), 0.6), (BigramScorer(vocab, seed=3), -0.2)]
    scorers = scorers[: chosen.choice([0, 0, 1, 2])]
    encoder = torch.randn(2, 25, 6) * chosen.choice([0.5, 1.0, 4.0])
    for part in (model.prediction, model.joint):
        part.float()
    for scorer, _ in scorers:
        scorer.table = scorer.table.float()
    options: dict[str, Any] = {name: chosen.choice(values) for name, values in CHOICES.items()}
    search = BeamSearch(
        model.prediction, model.joint, BeamOptions(engine="torch", **options), scorers
    )
    streams = [BeamStream(search), BeamStream(search)]  # that take turns
    for utterance, stream in enumerate(streams):
        streamed(stream, cut(chosen, encoder[utterance]))
    for utterance, stream in enumerate(streams):
        (whole,) = search.search(encoder[utterance : utterance + 1], torch.tensor([25]), nbest=9)
        assert_equal(whole, stream.hypotheses(nbest=9), 1e-4)


@pytest.mark.parametrize("seed", range(4))
def test_words_of_a_lexicon_come_block_by_block(seed: int) -> None:
    model, chosen = LexiconModel(seed, frames=19), random.Random(seed)
    tree = PrefixTree(lexicon_entries(PRONUNCIATIONS, TOKENS, WEIGHTS), vocab_size=4)
    options = BeamOptions(beam=5, topology=["monotonic", "rnnt"][seed % 2])
    search = LexiconSearch(model.prediction, model.joint, tree, options, LexiconOptions())
    stream = BeamStream(search)
    for block in cut(chosen, model.encoder[0]):
        stream.feed(block)
    found = stream.hypotheses(nbest=3)
    (whole,) = search.search(model.encoder[:1], torch.tensor([19]), nbest=3)
    assert [(h.words, h.word_frames) for h in found] == [(h.words, h.word_frames) for h in whole]
    assert [h.score for h in found] == pytest.approx([h.score for h in whole], abs=1e-6)
    assert found[0].words


def test_nothing_heard_is_nothing_said() -> None:
    model = Model("1", vocab=3)
    stream = BeamStream(BeamSearch(model.prediction, model.joint, BeamOptions(beam=2)))
    assert stream.hypotheses() == []
    assert stream.feed(torch.zeros(0, 6, dtype=torch.float64)).tokens == ()
    (found,) = stream.hypotheses()
    assert (found.tokens, found.score) == ((), 0.0)
    with pytest.raises(ValueError, match="at least 1 label"):
        BeamStream(BeamSearch(model.prediction, model.joint, BeamOptions(beam=2)), undecided=0)


def test_memory_stays_however_long_it_lasts() -> None:
    """A model that cannot decide gives up doubts that are too old, and goes on."""
    torch.manual_seed(0)
    model = Model("2", vocab=5)
    stream = BeamStream(BeamSearch(model.prediction, model.joint, BeamOptions(beam=4)), 10)
    for _ in range(40):
        progress = stream.feed(torch.randn(8, 6, dtype=torch.float64))
        assert stream.sizes()["nodes"] <= 1 + 4 * (10 + 8)
        assert len(progress.tokens) - progress.stable <= 10 + 8
    assert stream.heard == 320 and len(progress.tokens) > 50


def test_a_settled_tree_reads_the_same() -> None:
    tree, one = HistoryTree(torch.device("cpu")), torch.tensor
    yes = one([True, True, True])
    nodes = torch.zeros(3, dtype=torch.int64)
    for frame, labels in enumerate([[5, 5, 9], [6, 7, 9]]):
        nodes = tree.add(nodes, nodes, one(labels), one([frame]), yes)
    before = tree.read(nodes)
    again = tree.settle(nodes, one([True, True, False]))
    assert tree.read(again)[:2] == before[:2] == [((5, 6), (0, 1)), ((5, 7), (0, 1))]
    assert tree.settled == [(5, 0)] and again[2] == 0 and len(tree) == 3
    assert tree.unsettled(again)[:2] == [((6,), (1,)), ((7,), (1,))]
    again = tree.settle(again, one([True, False, False]))
    assert tree.settled == [(5, 0), (6, 1)] and tree.read(again)[0] == before[0]
    assert shared_length(["abc", "abx"]) == 2
