"""The NumPy references agree with each other before anything is held against them."""

from __future__ import annotations

from math import comb

import numpy as np
import pytest

from tests.reference import transducer as reference
from tests.reference.criteria import numerical_gradient


@pytest.mark.parametrize("topology", ["monotonic", "rnnt"])
@pytest.mark.parametrize(("frames", "labels"), [(1, 0), (1, 1), (4, 2), (5, 3)])
def test_enumeration_alpha_and_beta_agree(topology: str, frames: int, labels: int) -> None:
    rng = np.random.default_rng(frames * 10 + labels)
    logits = rng.normal(size=(frames, labels + 1, 4))
    targets = rng.integers(1, 4, labels).tolist()
    value, gradient = reference.enumerate_loss(logits, targets, 0, topology)
    assert reference.alpha_loss(logits, targets, 0, topology) == pytest.approx(value, rel=1e-12)
    assert reference.beta_loss(logits, targets, 0, topology) == pytest.approx(value, rel=1e-12)

    def alpha(point: np.ndarray) -> float:
        return reference.alpha_loss(point, targets, 0, topology)

    np.testing.assert_allclose(gradient, numerical_gradient(alpha, logits), atol=1e-8)


def test_number_of_paths() -> None:
    assert len(list(reference.paths(6, 3, "monotonic"))) == comb(6, 3)
    # The last step of an rnnt path is the last frame's blank.
    assert len(list(reference.paths(6, 3, "rnnt"))) == comb(6 - 1 + 3, 3)
    assert not list(reference.paths(2, 3, "monotonic"))
