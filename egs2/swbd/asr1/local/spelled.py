"""Acronyms: words that the dictionary pronounces letter by letter, written as letters.

``IBM`` becomes ``i b m``, as the references of the Hub5 evaluations have it; ``IBM's`` and ``IBMs``
become ``i b m's``. Which words these are, the pronunciations tell, as in Kaldi's s5c recipe.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

Pronunciations = Mapping[str, Iterable[tuple[str, ...]]]

# Names of the letters in the dictionary's phonemes.
LETTERS = {
    "a": "ey", "b": "b iy", "c": "s iy", "d": "d iy", "e": "iy", "f": "eh f", "g": "jh iy",
    "h": "ey ch", "i": "ay", "j": "jh ey", "k": "k ey", "l": "eh l", "m": "eh m", "n": "eh n",
    "o": "ow", "p": "p iy", "q": "k y uw", "r": "aa r", "s": "eh s", "t": "t iy", "u": "y uw",
    "v": "v iy", "w": "d ah b ax l y uw", "x": "eh k s", "y": "w ay", "z": "z iy",
}  # fmt: skip


def letter_pronunciations() -> dict[str, tuple[str, ...]]:
    """Return the pronunciation of each letter and of its ``'s`` form."""
    names = {letter: tuple(name.split()) for letter, name in LETTERS.items()}
    return names | {f"{letter}'s": name + _ending(name) for letter, name in names.items()}


def spelled_words(dictionary: Pronunciations) -> dict[str, str]:
    """Return {word as written: its letters} of all words that are spelled.

    A word counts as spelled if one of its pronunciations is its letters' names; such as are
    written in lower case too, since no other word is pronounced like that.
    """
    found = {}
    for word, pronunciations in dictionary.items():
        for pronunciation in pronunciations:
            letters = _letters(word, pronunciation)
            if letters:
                found[word] = letters
    return found


def is_spelled(word: str, pronunciation: tuple[str, ...]) -> bool:
    """Whether this pronunciation of the word is that of its letters."""
    return _letters(word, pronunciation) is not None


def _letters(word: str, pronunciation: tuple[str, ...]) -> str | None:
    """``IBMs`` with its pronunciation -> ``i b m's``; None if it is not spelled."""
    if not re.fullmatch(r"[A-Za-z]{2,}(?:'s)?", word):
        return None
    if word.endswith("'s"):
        candidates = [(word[:-2], "'s")]
    elif word.endswith("s"):
        candidates = [(word, ""), (word[:-1], "'s")]
    else:
        candidates = [(word, "")]
    for stem, ending in candidates:
        names = tuple(phone for letter in stem.lower() for phone in LETTERS[letter].split())
        spoken = pronunciation
        if ending:
            if not spoken or spoken[-1] not in ("s", "z"):
                continue
            spoken = spoken[:-1]
            # "es's" takes a vowel before its ending
            if spoken != names and spoken[:-1] == names and len(spoken[-1]) == 2:
                spoken = spoken[:-1]
        if spoken == names and len(stem) > 1:
            return " ".join(stem.lower()) + ending
    return None


def _ending(name: tuple[str, ...]) -> tuple[str, ...]:
    if name[-1] in ("s", "z", "ch"):
        return ("ax", "z")
    return ("s",) if name[-1] in ("f", "k", "p", "t") else ("z",)
