"""Random sentences from weighted patterns such as ``call <digit>{3,6}``."""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence

_ITEM = re.compile(r"^<(?P<name>\w+)>(\{(?P<least>\d+),(?P<most>\d+)\})?$")


class Grammar:
    """Draws sentences; the classes and patterns are explained in conf/corpus.yaml."""

    def __init__(
        self, classes: Mapping[str, Sequence[str]], patterns: Sequence[tuple[float, str]]
    ) -> None:
        """Check the patterns.

        Raises:
            ValueError: a malformed item, an unknown or empty class, or a bad repetition.
        """
        self._classes = classes
        self._weights = [float(weight) for weight, _ in patterns]
        self._patterns = [[self._parse(item) for item in text.split()] for _, text in patterns]
        if not self._patterns or not all(self._patterns) or min(self._weights) <= 0:
            raise ValueError("patterns need at least one, none empty, each with a positive weight")

    def _parse(self, item: str) -> tuple[Sequence[str], int, int]:
        """Return the words to choose from, and how often at least and at most."""
        if item.isalpha():
            return [item], 1, 1
        match = _ITEM.match(item)
        if match is None or not self._classes.get(match["name"]):
            raise ValueError(f"pattern item {item!r}: expected a word, <class> or <class>{{a,b}}")
        least, most = int(match["least"] or 1), int(match["most"] or 1)
        if not 1 <= least <= most:
            raise ValueError(f"pattern item {item!r}: repeats {least} to {most} times")
        return self._classes[match["name"]], least, most

    def draw(self, rng: random.Random) -> list[str]:
        """Return the words of one sentence."""
        words = []
        for choices, least, most in rng.choices(self._patterns, self._weights)[0]:
            words += [rng.choice(choices) for _ in range(rng.randint(least, most))]
        return words
