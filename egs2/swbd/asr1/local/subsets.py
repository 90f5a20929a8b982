"""Which utterances train: the development split, and a limit on utterances that say the same."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping


def split(names: Iterable[str], dev_utts: int) -> tuple[list[str], list[str]]:
    """Return (training, development): the first `dev_utts` in the order of their names are dev.

    This is ESPnet's split, so that results on it can be compared; the conversation at the border
    has utterances on both sides of it.

    Raises:
        ValueError: nothing would be left to train on.
    """
    ordered = sorted(names)
    if not 0 < dev_utts < len(ordered):
        raise ValueError(
            f"--dev_utts {dev_utts} must lie between 1 and {len(ordered) - 1}: "
            f"there are {len(ordered)} utterances"
        )
    return ordered[dev_utts:], ordered[:dev_utts]


def limit_repeats(names: Iterable[str], text: Mapping[str, str], limit: int) -> list[str]:
    """Return the utterances, of those that say the same only the first `limit` ones.

    Conversations are full of "yeah", "uh-huh" and "[noise]": thousands of each would teach nothing.
    """
    seen: Counter[str] = Counter()
    kept = []
    for name in names:
        seen[text[name]] += 1
        if seen[text[name]] <= limit:
            kept.append(name)
    return kept
