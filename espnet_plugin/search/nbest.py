"""N-best lists: the training material of stage 3, rescoring and confidences."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from espnet_plugin.search.hypothesis import Hypothesis
from espnet_plugin.search.levenshtein import label_risk
from espnet_plugin.search.scaling import scaled_sum


@dataclass(frozen=True)
class NbestEntry:
    """One entry of a stage-3 list.

    Attributes:
        tokens: Labels.
        risk: Label-level Levenshtein distance to the reference.
        hypothesis: Where it came from; None for a reference that was forced in, whose
            language-model score the caller still has to compute.
    """

    tokens: tuple[int, ...]
    risk: int
    hypothesis: Hypothesis | None


def make_nbest(
    hypotheses: Sequence[Hypothesis],
    reference: Sequence[int],
    size: int,
    riskless: Collection[int] = (),
) -> list[NbestEntry]:
    """The ``size`` best distinct label sequences, the reference among them (method.md, stage 3).

    Duplicates keep their best-scored entry. A reference that is not in the list takes the place of
    the worst entry when the list is full, and is appended otherwise.

    Args:
        riskless: labels that the risk does not count on either side, such as those of noises.

    Raises:
        ValueError: ``size`` < 1.
    """
    if size < 1:
        raise ValueError(f"an N-best list needs at least 1 entry, got {size}")
    wanted = tuple(reference)

    def risk(tokens: tuple[int, ...]) -> int:
        return label_risk(
            [token for token in tokens if token not in riskless],
            [token for token in wanted if token not in riskless],
        )

    best: dict[tuple[int, ...], Hypothesis] = {}
    for hypothesis in sorted(hypotheses, key=lambda h: -h.score):
        best.setdefault(hypothesis.tokens, hypothesis)
    kept = list(best.items())[:size]
    entries = [NbestEntry(tokens, risk(tokens), h) for tokens, h in kept]
    if wanted not in (entry.tokens for entry in entries):
        forced = NbestEntry(wanted, 0, best.get(wanted))
        entries = [*entries[: size - 1], forced]
    return entries


def rank_of(hypotheses: Sequence[Hypothesis], tokens: Sequence[int]) -> int:
    """Place of a label sequence among the distinct ones found, best first from 1; 0: not found."""
    wanted, seen = tuple(tokens), set()
    for hypothesis in sorted(hypotheses, key=lambda h: -h.score):
        seen.add(hypothesis.tokens)
        if hypothesis.tokens == wanted:
            return len(seen)
    return 0


def rescore(
    hypotheses: Sequence[Hypothesis],
    lm_scales: Sequence[float],
    ilm_scale: float = 0.0,
    new_lm_scores: Sequence[Sequence[float]] | None = None,
    pronunciation_scale: float = 0.0,
) -> list[Hypothesis]:
    """The same hypotheses under other scales, sorted again.

    Args:
        hypotheses: One utterance's list.
        lm_scales: One per LM score, the new ones last.
        ilm_scale: For the internal LM's score.
        new_lm_scores: For each hypothesis the log-probabilities of further LMs, to be appended
            to ``lm_scores`` (rescoring with a model that did not take part in the search).
        pronunciation_scale: For the pronunciation variants of a lexicon search.

    Raises:
        ValueError: Numbers of scores, scales and hypotheses that differ.
    """
    if new_lm_scores is not None and len(new_lm_scores) != len(hypotheses):
        raise ValueError(f"{len(new_lm_scores)} new scores for {len(hypotheses)} hypotheses")
    results = []
    for i, hypothesis in enumerate(hypotheses):
        extra = () if new_lm_scores is None else tuple(new_lm_scores[i])
        lm_scores = hypothesis.lm_scores + extra
        if len(lm_scores) != len(lm_scales):
            raise ValueError(f"{len(lm_scales)} scales for {len(lm_scores)} language models")
        score = hypothesis.am_score - ilm_scale * hypothesis.ilm_score
        score += pronunciation_scale * hypothesis.pronunciation_score
        score += scaled_sum(lm_scales, lm_scores)
        results.append(replace(hypothesis, score=score, lm_scores=lm_scores))
    return sorted(results, key=lambda h: -h.score)


def posteriors(hypotheses: Sequence[Hypothesis], scale: float = 1.0) -> list[float]:
    """Share of each hypothesis in the list: softmax of scale times score."""
    best = max(h.score for h in hypotheses)
    weights = [math.exp(scale * (h.score - best)) for h in hypotheses]
    return [weight / sum(weights) for weight in weights]
