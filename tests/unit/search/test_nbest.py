"""N-best lists, risks, rescoring; prediction caches; scores against full_sum_loss."""

from __future__ import annotations

import functools
import itertools
import math

import pytest
import torch

from espnet_plugin.losses import full_sum_loss
from espnet_plugin.nn import FeedForwardPrediction, JointNetwork, LSTMPrediction
from espnet_plugin.search import (
    Hypothesis,
    beam_search,
    label_risk,
    levenshtein,
    make_nbest,
    posteriors,
    rescore,
)
from espnet_plugin.search.beam.prediction_cache import (
    ContextCache,
    RecurrentCache,
    TableCache,
    make_prediction_cache,
)


def slow_distance(first: tuple, second: tuple) -> int:
    @functools.cache
    def distance(i: int, j: int) -> int:
        if i == 0 or j == 0:
            return i + j
        same = first[i - 1] == second[j - 1]
        return min(
            distance(i - 1, j) + 1, distance(i, j - 1) + 1, distance(i - 1, j - 1) + 1 - same
        )

    return distance(len(first), len(second))


def test_levenshtein_of_all_short_pairs() -> None:
    words = [w for n in range(5) for w in itertools.product("ab", repeat=n)]
    for first, second in itertools.product(words, words):
        assert levenshtein(first, second) == slow_distance(first, second)
    assert label_risk([1, 2, 3], [1, 3]) == 1


def hypothesis(tokens: tuple[int, ...], score: float) -> Hypothesis:
    return Hypothesis(tokens, score, score + 1.0, -2.0, (-3.0,))


def test_make_nbest_drops_duplicates_and_forces_the_reference_in() -> None:
    found = [hypothesis((1,), -2), hypothesis((2,), -1), hypothesis((1,), -3), hypothesis((3,), -4)]
    entries = make_nbest(found, [2, 1], 3)
    assert [(e.tokens, e.risk) for e in entries] == [((2,), 1), ((1,), 1), ((2, 1), 0)]
    assert entries[-1].hypothesis is None
    entries = make_nbest(found, [3], 2)
    assert [e.tokens for e in entries] == [(2,), (3,)]
    assert entries[1].hypothesis == found[3]  # pruned from the list but known, score and all
    assert [e.tokens for e in make_nbest(found, [1], 2)] == [(2,), (1,)]
    assert [e.tokens for e in make_nbest([], [1, 1], 4)] == [(1, 1)]
    assert [e.tokens for e in make_nbest(found, [9], 1)] == [(9,)]
    with pytest.raises(ValueError, match="at least 1"):
        make_nbest(found, [1], 0)


def test_risk_may_leave_labels_out() -> None:
    found = [hypothesis((1, 9, 2), -1), hypothesis((1, 2, 2), -2)]
    plain = make_nbest(found, [9, 1, 2], 4)
    assert [entry.risk for entry in plain] == [2, 2, 0]
    assert [entry.risk for entry in make_nbest(found, [9, 1, 2], 4, {9})] == [0, 1, 0]


def test_rescore_and_posteriors() -> None:
    found = [hypothesis((1,), -2.0), hypothesis((2,), -3.0)]
    again = rescore(found, [0.5, 2.0], ilm_scale=0.1, new_lm_scores=[[-5.0], [-1.0]])
    assert [h.tokens for h in again] == [(2,), (1,)]
    assert again[0].score == pytest.approx(-2.0 + 0.2 - 1.5 - 2.0)
    assert again[0].lm_scores == (-3.0, -1.0)
    assert posteriors(found) == pytest.approx([1 / (1 + math.exp(-1)), 1 / (1 + math.e)])
    with pytest.raises(ValueError, match="2 scales for 1"):
        rescore(found, [1.0, 1.0])
    with pytest.raises(ValueError, match="1 new scores for 2"):
        rescore(found, [1.0, 1.0], new_lm_scores=[[1.0]])


@pytest.mark.parametrize(
    ("kind", "max_rows", "expected"),
    [(1, 1, TableCache), (2, 100, TableCache), (2, 10, ContextCache), (0, 1, RecurrentCache)],
)
def test_caches_give_what_the_network_gives(kind: int, max_rows: int, expected: type) -> None:
    torch.manual_seed(0)
    network = FeedForwardPrediction(5, 3, 4, context=kind) if kind else LSTMPrediction(5, 3, 4)
    prediction, joint = network.eval(), JointNetwork(6, 4, 7, 5).eval()
    sequences = torch.tensor([[1, 2, 3], [4, 4, 1], [3, 1, 2]])
    pause = torch.tensor([[1, 0, 1], [1, 1, 0], [0, 1, 1]]).bool()
    with torch.no_grad():
        cache = make_prediction_cache(prediction, joint, max_rows=max_rows)
        assert isinstance(cache, expected)
        state = cache.start(3)
        for i in range(3):
            state = cache.advance(state, sequences[:, i], pause[:, i])
        projected = cache.projected(state)
        for row in range(3):
            labels = sequences[row][pause[row]]
            wanted = joint.prediction_proj(prediction(labels[None])[0, -1])
            assert projected[row].tolist() == pytest.approx(wanted.tolist(), abs=1e-6)


def test_context_too_long_for_the_cache() -> None:
    prediction = FeedForwardPrediction(5000, 1, 2, context=6).eval()
    with pytest.raises(ValueError, match="63 bits"):
        make_prediction_cache(prediction, JointNetwork(2, 2, 2, 5000).eval())


@pytest.mark.parametrize("topology", ["monotonic", "rnnt"])
def test_scores_agree_with_full_sum_loss(topology: str) -> None:
    torch.manual_seed(2)
    prediction, joint = LSTMPrediction(3, 3, 4).eval(), JointNetwork(6, 4, 7, 3).eval()
    encoder, frames = torch.randn(1, 3, 6), torch.tensor([3])
    with torch.no_grad():
        for beam, exact in ((1100, True), (3, False)):
            for found in beam_search(
                encoder,
                frames,
                prediction,
                joint,
                beam=beam,
                nbest=20,
                topology=topology,
                max_symbols=3,
            )[0]:
                if topology == "rnnt" and len(found.tokens) > 3:
                    continue  # some of its paths have more labels on a frame than searched
                targets = torch.tensor([found.tokens], dtype=torch.long).view(1, -1)
                logits = joint(encoder[:, :, None], prediction(targets)[:, None])
                symbols = torch.tensor([len(found.tokens)])
                loss = full_sum_loss(logits, targets, frames, symbols, topology=topology)
                if exact:
                    assert found.am_score == pytest.approx(-loss.item(), abs=1e-4)
                else:
                    assert found.am_score <= -loss.item() + 1e-4
