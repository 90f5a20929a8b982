"""Is a difference of error rates more than chance? The paired bootstrap of Bisani and Ney (2004).

M. Bisani, H. Ney, "Bootstrap estimates for confidence intervals in ASR performance evaluation",
ICASSP 2004: the test set's segments are drawn anew with replacement, and the difference of both
systems' error rates is computed on each draw, with the same segments for both.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from espnet_plugin.scoring.edit_distance import Counts

_CHUNK = 64  # draws at once


@dataclass(frozen=True)
class Comparison:
    """Error rates of two systems in per cent and the interval of their difference (B minus A).

    Attributes:
        low, high: ends of the confidence interval of the difference, in per cent points.
        improvement: share of draws on which B is strictly better than A.
        units: what was drawn (number of sentences or of speakers).
    """

    rate_a: float
    rate_b: float
    low: float
    high: float
    improvement: float
    units: int
    confidence: float

    @property
    def difference(self) -> float:
        """B minus A in per cent points; below 0 when B makes fewer errors."""
        return self.rate_b - self.rate_a

    @property
    def significant(self) -> bool:
        """Whether the interval excludes no difference."""
        return self.low > 0 or self.high < 0


def paired_bootstrap(
    a: Mapping[str, Counts],
    b: Mapping[str, Counts],
    *,
    speakers: Mapping[str, str] | None = None,
    draws: int = 10000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Comparison:
    """Compare two systems on the same utterances.

    Args:
        a: counts of each utterance.
        b: the same of the other system.
        speakers: utterance to speaker. If given, whole speakers are drawn, which is the honest
            unit when the errors of one speaker's utterances go together.
        draws: number of resampled test sets.
        confidence: of the interval.
        seed: of the random draws.

    Raises:
        ValueError: other utterances in `a` than in `b`, none at all, no reference token, an
            utterance without a speaker, or a confidence outside (0, 1).
    """
    if a.keys() != b.keys():
        odd = sorted(a.keys() ^ b.keys())
        raise ValueError(f"{len(odd)} utterances are not in both systems: {', '.join(odd[:5])}")
    if not 0 < confidence < 1 or draws < 1:
        raise ValueError(f"confidence {confidence} outside (0, 1), or {draws} draws")
    missing = [] if speakers is None else sorted(a.keys() - speakers.keys())
    if missing:
        raise ValueError(f"{len(missing)} utterances without a speaker: {', '.join(missing[:5])}")
    sums: dict[str, list[int]] = {}
    for utterance in sorted(a):
        unit = utterance if speakers is None else speakers[utterance]
        entry = sums.setdefault(unit, [0, 0, 0])
        for n, value in enumerate((a[utterance].tokens, a[utterance].errors, b[utterance].errors)):
            entry[n] += value
    units = np.array(list(sums.values()), np.float64).reshape(-1, 3)  # [units, 3]
    tokens, errors_a, errors_b = units.sum(0).tolist()
    if not tokens:
        raise ValueError("no reference token to compare on")
    differences = _draw(units, draws, np.random.default_rng(seed))
    tail = 50 * (1 - confidence)
    low, high = np.nanpercentile(differences, [tail, 100 - tail]).tolist()
    return Comparison(
        rate_a=100 * errors_a / tokens,
        rate_b=100 * errors_b / tokens,
        low=low,
        high=high,
        improvement=float(np.mean(differences < 0)),
        units=len(units),
        confidence=confidence,
    )


def _draw(units: np.ndarray, draws: int, generator: np.random.Generator) -> np.ndarray:
    """Differences of the error rates [draws] in per cent points, on resampled units."""
    differences = []
    even = np.full(len(units), 1 / len(units))
    for start in range(0, draws, _CHUNK):
        weights = generator.multinomial(len(units), even, size=min(_CHUNK, draws - start))
        tokens, errors_a, errors_b = (weights @ units).T  # [draws of the chunk] each
        with np.errstate(invalid="ignore", divide="ignore"):  # a draw may hold no token at all
            differences.append(100 * (errors_b - errors_a) / tokens)
    return np.concatenate(differences)
