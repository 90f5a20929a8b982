"""Masks of spans, stacks of features, the random quantiser: by hand, by NumPy, by counting."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from espnet_plugin.nn.masking import normalised, span_mask, stacked
from espnet_plugin.nn.quantiser import RandomQuantiser, perplexity

SPAN, PROBABILITY = 40, 0.01


def test_the_share_of_masked_frames() -> None:
    rows, frames = 400, 1000
    generator = torch.Generator().manual_seed(3)
    draws = torch.rand(rows, frames, generator=generator)
    mask = span_mask(draws, torch.full((rows,), frames), PROBABILITY, SPAN)
    inner = mask[:, SPAN:-SPAN].double()
    expected = 1 - (1 - PROBABILITY) ** SPAN
    assert expected == pytest.approx(0.331, abs=0.0005)
    means = inner.mean(1)  # rows are independent, frames of a row are not
    assert float(means.mean()) == pytest.approx(expected, abs=3 * float(means.std()) / rows**0.5)


def test_spans_are_whole_and_within_the_utterance() -> None:
    lengths = torch.tensor([30, 17, 5, 4, 0])
    draws = torch.ones(5, 30)
    draws[:, [0, 3, 15, 25, 26, 29]] = 0.0
    mask = span_mask(draws, lengths, 0.5, 5)
    first = [0, 1, 2, 3, 4, 5, 6, 7, 15, 16, 17, 18, 19, 25, 26, 27, 28, 29]
    expected = [first, first[:8], first[:5], [], []]  # 15 + 5 > 17; 3 + 5 > 5
    assert [row.nonzero().flatten().tolist() for row in mask] == expected


def test_every_row_has_mean_0_and_deviation_1_and_padding_none() -> None:
    torch.manual_seed(0)
    features, lengths = 3 * torch.randn(3, 20, 4) + 7, torch.tensor([20, 11, 1])
    found = normalised(features, lengths)
    for row, length in enumerate(lengths.tolist()):
        own = features[row, :length].double().numpy()
        expected = (own - own.mean(0)) / np.maximum(own.std(0), 1e-5)
        np.testing.assert_allclose(found[row, :length].numpy(), expected, atol=1e-4)
        assert not found[row, length:].any()
    changed = features.clone()
    changed[1, 11:] = 1e6  # padding says nothing
    assert torch.equal(normalised(changed, lengths), found)


@pytest.mark.parametrize(
    ("offset", "frames", "expected"),
    [
        (-3, 3, [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, -1, -1]]),  # VGG: T = ceil(T'/4)
        (0, 2, [[0, 1, 2, 3], [4, 5, 6, 7]]),
        (3, 1, [[1, 2, 3, 4]]),  # conv2d sees 0 to 6 of frame 0
    ],
)
def test_the_stack_of_an_encoder_frame(offset: int, frames: int, expected: list[list[int]]) -> None:
    features = torch.arange(1, 11)[None, :, None]  # [1, 10, 1]
    found = stacked(features, 4, offset, frames)
    assert (found[0, :, :, 0] - 1).tolist() == expected


def test_codes_are_those_of_a_search_in_numpy() -> None:
    torch.manual_seed(1)
    quantiser = RandomQuantiser(12, books=3, codes=17, dim=5, seed=4)
    frames = torch.randn(50, 12)
    found = quantiser(frames)
    assert found.shape == (50, 3)
    for book in range(3):
        projected = frames.double().numpy() @ quantiser.projections[book].double().numpy()
        codes = quantiser.code_books[book].double().numpy()
        for n, vector in enumerate(projected / np.linalg.norm(projected, axis=1, keepdims=True)):
            directions = codes / np.linalg.norm(codes, axis=1, keepdims=True)
            apart = np.linalg.norm(directions - vector, axis=1)
            assert int(found[n, book]) == int(apart.argmin())


def test_the_quantiser_follows_from_its_seed_and_learns_nothing() -> None:
    made = []
    for state in (1, 2):
        torch.manual_seed(state)
        made.append(RandomQuantiser(12, books=2, codes=9, dim=4, seed=5))
        assert torch.initial_seed() == state
    assert torch.equal(made[0].projections, made[1].projections)
    assert torch.equal(made[0].code_books, made[1].code_books)
    assert not torch.equal(made[0].projections[0], made[0].projections[1])
    other = RandomQuantiser(12, books=2, codes=9, dim=4, seed=6)
    assert not torch.equal(made[0].code_books, other.code_books)
    assert not list(made[0].parameters())
    assert not made[0].state_dict()
    bound = math.sqrt(6 / (12 + 4))  # Xavier's
    assert 0.8 * bound < float(made[0].projections.abs().max()) <= bound


def test_codes_are_the_same_under_autocast() -> None:
    torch.manual_seed(1)
    quantiser, frames = RandomQuantiser(32, 2, 500, 16, seed=0), torch.randn(200, 32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = quantiser(frames)
    assert torch.equal(found, quantiser(frames))


def test_perplexity_counts_codes_in_use() -> None:
    counts = torch.tensor([[5.0, 5, 5, 5], [7, 7, 0, 0], [9, 0, 0, 0], [0, 0, 0, 0]])
    assert perplexity(counts).tolist() == pytest.approx([4.0, 2.0, 1.0, 1.0])
