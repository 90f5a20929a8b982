"""Pronunciation variants: sum and best path against enumeration of variants and alignments."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from espnet_plugin.lattice.label_graph import graph_best_path, make_graph
from espnet_plugin.losses import encoder_full_sum_loss
from espnet_plugin.losses.variant_full_sum import variant_full_sum_loss

CPU = torch.device("cpu")
UTTERANCES = [
    [[[1, 2], [3]], [[2], [2, 1], [4]]],
    [[[4]], [[1], [3, 1]], [[2, 2]]],
    [[[1, 1, 1, 1, 1, 1], [2, 1]]],  # the first variant is too long for 5 frames
    [],
    [[[1, 2, 3]], [[4, 4, 4]]],  # impossible
]
LENGTHS = torch.tensor([5, 4, 5, 3, 5])


def paths(words, frames: int):
    """(variant of each word, labels, frames of the labels), all of them."""
    for choice in itertools.product(*(range(len(word)) for word in words)):
        labels = [v for word, k in zip(words, choice, strict=True) for v in word[k]]
        for places in itertools.combinations(range(frames), len(labels)):
            yield choice, labels, places


def score(log_probs, labels, places, frames: int) -> float:
    symbols = dict(zip(places, labels, strict=True))
    return sum(float(log_probs[t, symbols.get(t, 0)]) for t in range(frames))


def logits() -> torch.Tensor:
    torch.manual_seed(3)
    return torch.randn(5, 6, 5).double()


def test_the_sum_is_over_all_variants_and_alignments() -> None:
    x = logits()
    losses = variant_full_sum_loss(x, make_graph(UTTERANCES, CPU), LENGTHS, reduction="none")
    log_probs = x.log_softmax(-1)
    for b, words in enumerate(UTTERANCES):
        frames = int(LENGTHS[b])
        scores = [score(log_probs[b], a, p, frames) for _, a, p in paths(words, frames)]
        if not scores:
            assert math.isinf(losses[b])
            continue
        expected = -torch.tensor(scores, dtype=torch.float64).logsumexp(0)
        torch.testing.assert_close(losses[b], expected, rtol=0, atol=1e-12)


def test_one_variant_is_the_ordinary_loss() -> None:
    targets = torch.tensor([[1, 2, 3], [4, 4, 0]])
    lengths, labels = torch.tensor([6, 4]), torch.tensor([3, 2])
    words = [[[[1, 2]], [[3]]], [[[4, 4]]]]
    x, y = (logits()[:2].requires_grad_() for _ in range(2))
    graph = make_graph(words, CPU)
    ours = variant_full_sum_loss(x, graph, lengths)
    theirs = encoder_full_sum_loss(y, targets, lengths, labels)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)
    ours.backward(), theirs.backward()
    torch.testing.assert_close(x.grad, y.grad, rtol=0, atol=1e-12)


def test_gradients() -> None:
    graph, lengths = make_graph(UTTERANCES[:3], CPU), LENGTHS[:3]
    x = logits()[:3].requires_grad_()
    assert torch.autograd.gradcheck(lambda z: variant_full_sum_loss(z, graph, lengths), (x,))


def test_an_impossible_utterance_has_no_gradient_and_padding_is_not_read() -> None:
    x = logits()
    x[3, 3:] = torch.nan
    x.requires_grad_()
    options = {"reduction": "sum", "infeasible": "skip"}
    variant_full_sum_loss(x, make_graph(UTTERANCES, CPU), LENGTHS, **options).backward()
    assert x.grad.isfinite().all() and (x.grad[4] == 0).all() and (x.grad[3, 3:] == 0).all()


@pytest.mark.parametrize("seed", range(5))
def test_the_best_path_chooses_among_variants(seed: int) -> None:
    torch.manual_seed(seed)
    log_probs = torch.randn(5, 6, 5).double().log_softmax(-1)
    graph = make_graph(UTTERANCES, CPU)
    entered, best = graph_best_path(log_probs[..., 0], graph.arcs(log_probs), LENGTHS, graph)
    for b, words in enumerate(UTTERANCES):
        frames = int(LENGTHS[b])
        found = max(
            ((score(log_probs[b], a, p, frames), c, a, p) for c, a, p in paths(words, frames)),
            default=None,
        )
        places = [t for t in range(6) if entered[b, t] >= 0]
        nodes = entered[b, places]
        if found is None:
            assert math.isinf(best[b]) and not places
            continue
        assert float(best[b]) == pytest.approx(found[0], abs=1e-12)
        assert graph.labels[b, nodes].tolist() == found[2] and tuple(places) == found[3]
        chosen = dict(
            zip(graph.word[b, nodes].tolist(), graph.variant[b, nodes].tolist(), strict=True)
        )
        assert tuple(chosen[w] for w in range(len(words))) == found[1]


def test_words_need_variants_and_variants_labels() -> None:
    for words in ([[[1]], []], [[[1], []]]):
        with pytest.raises(ValueError, match="word"):
            make_graph([words], CPU)
