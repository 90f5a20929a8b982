"""Scale search on N-best lists."""

from __future__ import annotations

import pytest

from espnet_plugin.search import Hypothesis, search_scales

RIGHT = Hypothesis((1, 2), 0.0, -5.0, -1.0, (-1.0,))
WRONG = Hypothesis((1,), 0.0, -4.0, -3.0, (-3.0,))


def test_the_grid_point_with_fewest_errors_comes_first() -> None:
    points = search_scales([[WRONG, RIGHT]], [(1, 2)], [[0.0, 0.4, 0.6]], [0.0, 0.3])
    found = {(p.lm_scales[0], p.ilm_scale): p.errors for p in points}
    # The right one wins as soon as 2 * lm_scale - 2 * ilm_scale > 1.
    assert found == {
        (0.0, 0.0): 1,
        (0.4, 0.0): 1,
        (0.6, 0.0): 0,
        (0.0, 0.3): 1,
        (0.4, 0.3): 1,
        (0.6, 0.3): 1,
    }
    assert (points[0].lm_scales, points[0].ilm_scale, points[0].rate) == ((0.6,), 0.0, 0.0)
    assert points[1].lm_scales == (0.0,)  # ties: the smaller scales first
    assert points[1].rate == 0.5


def test_words_count_when_there_are_words() -> None:
    spoken = Hypothesis((1, 2), 0.0, -1.0, words=("hi",))
    assert search_scales([[spoken]], [["hi"]], [])[0].errors == 0
    assert search_scales([[spoken]], [[1]], [], units=lambda h: h.tokens)[0].errors == 1


def test_bad_calls() -> None:
    with pytest.raises(ValueError, match="1 N-best lists for 2"):
        search_scales([[RIGHT]], [(1,), (2,)], [[0.0]])
    with pytest.raises(ValueError, match="grids for 2 language models"):
        search_scales([[RIGHT]], [(1,)], [[0.0], [0.0]])
    with pytest.raises(ValueError, match="no unit"):
        search_scales([[RIGHT]], [()], [[0.0]])
    with pytest.raises(ValueError, match="no hypothesis"):
        search_scales([[]], [(1,)], [[0.0]])
