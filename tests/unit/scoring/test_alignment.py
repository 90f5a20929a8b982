"""Alignments and counts against hand-made values, a plain dynamic program, jiwer, kaldialign."""

from __future__ import annotations

import random
from functools import cache

import jiwer
import kaldialign
import numpy as np
import pytest

from espnet_plugin.scoring import Costs, Counts, align, count_errors, edit_distance
from espnet_plugin.scoring.edit_distance import EDIT_COSTS, SCLITE_COSTS, distances


def counts_of(reference: str, hypothesis: str, costs: Costs = EDIT_COSTS) -> tuple[int, ...]:
    """(correct, substitutions, deletions, insertions) of two strings of words."""
    (steps,) = align([reference.split()], [hypothesis.split()], costs)
    found = count_errors(steps)
    return found.correct, found.substitutions, found.deletions, found.insertions


@pytest.mark.parametrize(
    ("reference", "hypothesis", "expected"),
    [
        ("a b c", "a b c", (3, 0, 0, 0)),
        ("a b c", "", (0, 0, 3, 0)),
        ("", "a b", (0, 0, 0, 2)),
        ("", "", (0, 0, 0, 0)),
        ("a b c", "a x c", (2, 1, 0, 0)),
        ("a b c", "a c", (2, 0, 1, 0)),
        ("a b c", "a b x c", (3, 0, 0, 1)),
        ("a b c d", "b c x d y", (3, 0, 1, 2)),
        # two edits either way; the alignment with more correct words is taken
        ("a b", "b c", (1, 0, 1, 1)),
    ],
)
def test_counts_by_hand(reference: str, hypothesis: str, expected: tuple[int, ...]) -> None:
    assert counts_of(reference, hypothesis) == expected


def test_sclite_weights_prefer_correct_words_to_fewer_errors() -> None:
    # five substitutions (20) against three deletions, two correct words, three insertions (18)
    reference, hypothesis = "a b c d e", "d e x y z"
    assert counts_of(reference, hypothesis) == (0, 5, 0, 0)
    assert counts_of(reference, hypothesis, SCLITE_COSTS) == (2, 0, 3, 3)


def plain_best(reference: str, hypothesis: str) -> tuple[int, int]:
    """(edits, substitutions), the smallest pair, by plain recursion."""

    @cache
    def best(i: int, j: int) -> tuple[int, int]:
        if i == 0 or j == 0:
            return i + j, 0
        edits, subs = best(i - 1, j - 1)
        differs = int(reference[i - 1] != hypothesis[j - 1])
        gaps = (best(i - 1, j), best(i, j - 1))
        return min((edits + differs, subs + differs), *((e + 1, s) for e, s in gaps))

    return best(len(reference), len(hypothesis))


def test_many_pairs_at_once_equal_a_plain_recursion_and_jiwer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(edit_distance, "_MAX_CELLS", 500)  # several batches
    draw = random.Random(1)
    pairs = [
        tuple("".join(draw.choices("abc", k=draw.randint(0, 9))) for _ in range(2))
        for _ in range(300)
    ]
    aligned = align([r for r, _ in pairs], [h for _, h in pairs])
    for (reference, hypothesis), steps in zip(pairs, aligned, strict=True):
        found = count_errors(steps)
        edits, substitutions = plain_best(reference, hypothesis)
        assert (found.errors, found.substitutions) == (edits, substitutions)
        assert found.tokens == len(reference)
        assert found.correct + found.substitutions + found.insertions == len(hypothesis)
        if reference:
            peer = jiwer.process_words(" ".join(reference), " ".join(hypothesis))
            assert found.errors == peer.substitutions + peer.deletions + peer.insertions


def test_the_steps_rebuild_both_sides() -> None:
    reference, hypothesis = list("kitten"), list("sittingly")
    (steps,) = align([reference], [hypothesis])
    i = j = 0
    for step in steps.tolist():
        if step == edit_distance.CORRECT:
            assert reference[i] == hypothesis[j]
        i += step != edit_distance.INSERTION
        j += step != edit_distance.DELETION
    assert (i, j) == (len(reference), len(hypothesis))


def test_rates_over_a_set() -> None:
    references, hypotheses = ["a b c d", "e"], ["a x c", "e"]
    total = Counts()
    for steps in align([r.split() for r in references], [h.split() for h in hypotheses]):
        total = total + count_errors(steps)
    assert total == Counts(2, 5, 3, 1, 1, 0, 1)
    assert total.error_rate == pytest.approx(40.0)
    assert total.sentence_error_rate == pytest.approx(50.0)
    assert total.error_rate / 100 == pytest.approx(jiwer.wer(references, hypotheses))
    assert np.isnan(Counts().error_rate)


def test_one_against_many() -> None:
    candidates = np.array([[1, 2, 3], [1, 3, -1], [-1, -1, -1], [9, 9, 9]])
    found = distances(np.array([1, 2, 3]), candidates, np.array([3, 2, 0, 3]))
    assert found.tolist() == [0, 1, 3, 3]


def test_sides_of_different_length_are_refused() -> None:
    with pytest.raises(ValueError, match="2 references and 1 hypotheses"):
        align([["a"], ["b"]], [["a"]])
    with pytest.raises(ValueError, match="at least 1"):
        Costs(gap=0)


def test_totals_are_those_of_kaldialign_and_more_words_count_as_correct() -> None:
    """The field's own library leaves the choice among equally cheap alignments open."""
    generator = random.Random(0)
    sides = [["".join(generator.choices("abcd", k=n)) for n in range(13)] for _ in range(40)]
    references = [list(a) for row in sides for a in row]
    hypotheses = [list(b) for row in reversed(sides) for b in reversed(row)]
    others = 0
    for reference, hypothesis, steps in zip(
        references, hypotheses, align(references, hypotheses), strict=True
    ):
        ours, theirs = count_errors(steps), kaldialign.edit_distance(reference, hypothesis)
        assert ours.errors == theirs["total"]
        assert ours.substitutions <= theirs["sub"]
        others += ours.substitutions < theirs["sub"]
    assert others  # so that counts of two programs may differ where totals do not
