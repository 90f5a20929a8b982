"""Back-off n-gram probabilities by the textbook recursion. Pure Python, nothing of ours."""

from __future__ import annotations

import math


def parse(text: str) -> dict[tuple[str, ...], tuple[float, float]]:
    """ARPA text -> {n-gram: (log10 p, log10 back-off)}."""
    grams: dict[tuple[str, ...], tuple[float, float]] = {}
    order = 0
    for line in text.splitlines():
        fields = line.split()
        if line.startswith("\\") and line.endswith("-grams:"):
            order = int(line[1:].split("-")[0])
        elif order and len(fields) > order:
            backoff = float(fields[order + 1]) if len(fields) > order + 1 else 0.0
            grams[tuple(fields[1 : order + 1])] = float(fields[0]), backoff
    return grams


def log_prob(
    grams: dict[tuple[str, ...], tuple[float, float]], context: tuple[str, ...], word: str
) -> float:
    """Natural log p(word | context)."""
    if (*context, word) in grams:
        return grams[(*context, word)][0] * math.log(10)
    assert context, f"{word} is unknown"
    backoff = grams.get(context, (0.0, 0.0))[1] * math.log(10)
    return backoff + log_prob(grams, context[1:], word)


def sentence(grams: dict[tuple[str, ...], tuple[float, float]], words: list[str]) -> float:
    """Natural log-probability of a sentence with its end, under a model of any order."""
    order = max(len(gram) for gram in grams)
    history = ["<s>"]
    total = 0.0
    for word in [*words, "</s>"]:
        context = tuple(history[-(order - 1) :]) if order > 1 else ()
        total += log_prob(grams, context, word)
        history.append(word)
    return total
