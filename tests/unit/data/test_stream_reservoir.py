"""A stream's memory of old records: uniform, a function of seed and position, asked again."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import chisquare

from espnet_plugin.data.stream.records import Record, encode
from espnet_plugin.data.stream.reservoir import (
    PASSED_OVER,
    Reservoir,
    held_positions,
    recalled,
    runs,
    targets,
)
from tests.unit.data.test_stream_reader import expected, options

ARRIVALS, BINS = 10_000, 50


def record(number: int) -> Record:
    return Record(number, f"u{number}", "A", np.zeros((1, 1), np.float32))


def numbers(reservoir: Reservoir) -> list[int]:
    return [held.number for held in reservoir._held]


def test_what_is_held_is_uniform_over_all_arrivals() -> None:
    counts, trials, size = np.zeros(BINS), 200, 100
    for key in range(trials):
        held = held_positions(size, key, ARRIVALS)
        assert len(set(held)) == size
        counts += np.bincount(np.array(held) * BINS // ARRIVALS, minlength=BINS)
    assert counts.sum() == trials * size
    assert chisquare(counts).pvalue > 0.01


def test_what_is_drawn_is_uniform_over_what_is_held() -> None:
    held = [record(n) for n in range(10)]
    counts = np.zeros(10)
    for arrived in range(10, 3010):
        drawn = [each.number for each in Reservoir(10, 4, arrived, held).drawn(3)]
        assert len(set(drawn)) == 3
        counts[drawn] += 1
    assert chisquare(counts).pvalue > 0.01
    assert Reservoir(10, 4, 10, held).drawn(3) == Reservoir(10, 4, 10, held).drawn(3)
    assert Reservoir(10, 4, 10, held).drawn(12) != held  # all of them, in another order


def test_positions_are_those_of_algorithm_r_offered_bit_by_bit() -> None:
    size, key = 7, 11
    reservoir, expected_places = Reservoir(size, key), list[int]()
    generator = np.random.default_rng(0)
    for position, place in enumerate(targets(key, 0, 400).tolist()):
        assert 0 <= place <= position
        if position < size:
            expected_places.append(position)
        elif place < size:
            expected_places[place] = position
    done = 0
    while done < 400:
        count = min(int(generator.integers(1, 30)), 400 - done)
        reservoir.offer([record(n) for n in range(done, done + count)])
        done += count
        assert numbers(reservoir) == held_positions(size, key, done)
    assert numbers(reservoir) == expected_places
    assert held_positions(size, key, 3) == [0, 1, 2]
    assert held_positions(size, key + 1, 400) != expected_places


@pytest.mark.parametrize("first", [0, 1, 3, 4, 5, 1001])
def test_a_draw_depends_on_the_position_alone(first: int) -> None:
    whole = targets(3, 0, 1010)
    np.testing.assert_array_equal(targets(3, first, 9), whole[first : first + 9])
    assert not np.array_equal(targets(4, 0, 1010), whole)


def test_producers_start_anew_where_much_would_be_thrown_away() -> None:
    near, far = PASSED_OVER, PASSED_OVER + 1
    assert runs([0, 1, 1 + near, 2 + near, 2 + near + far]) == [
        [0, 1, 1 + near, 2 + near],
        [2 + near + far],
    ]
    assert runs([]) == []


def test_held_records_come_again(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [encode(r) for r in recalled(options(processes=2), 5, [6, 2, 4])] == [
        expected(range(n, n + 1))[0] for n in (6, 2, 4)
    ]
    monkeypatch.setattr("espnet_plugin.data.stream.reservoir.PASSED_OVER", 1)
    of_second = recalled(options(), 5, [9, 0, 3], rank=1, world=2)
    assert [encode(r) for r in of_second] == [expected(range(n, n + 1))[0] for n in (19, 1, 7)]
    assert recalled(options(), 5, []) == []


def test_how_many_of_a_pool_are_old() -> None:
    given = options(pool=10, reservoir=4, recent_share=0.3)
    assert [given.old_records(arrived) for arrived in (0, 3, 4, 99)] == [0, 3, 4, 4]
    assert options(pool=10, reservoir=99).old_records(50) == 5
    assert options(pool=10, reservoir=99, recent_share=0.01).old_records(50) == 9
    assert options(pool=10).old_records(50) == 0
