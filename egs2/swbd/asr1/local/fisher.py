"""Text of the Fisher corpus for the language model, written as the Switchboard transcripts are.

A line of ``data/trans/000/fe_03_00001.txt`` is ``3.76 5.54 A: and i generally prefer``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

_LINE = re.compile(r"^[\d.]+\s+[\d.]+\s+[AB]:\s*(?P<words>.*)$")
_FOREIGN = re.compile(r"<[^>]*>")
_SPELLED = re.compile(r"\b(?:[a-z]\._)*[a-z]\.(?P<ending>'?s)?(?=\s|$)")
_SOUNDS = {
    "[laugh]": "[laughter]", "[mn]": "[vocalized-noise]", "[breath]": "[noise]",
    "[cough]": "[noise]", "[lipsmack]": "[noise]", "[sigh]": "[noise]", "[sneeze]": "[noise]",
}  # fmt: skip
# Fragments that are words of the dictionary.
_WORDS = ("'cause", "'course", "'kay", "'okay", "'specially")
_DROPPED = ("[[skip]]", "[pause]", "[skip]")


def sentences(root: Path) -> Iterator[list[str]]:
    """Yield the words of every segment below ``<root>/data/trans``."""
    for path in sorted(root.glob("data/trans/*/fe_03_*.txt")):
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            match = _LINE.match(line)
            words = normalise(match["words"]) if match else []
            if words:
                yield words


def normalise(text: str) -> list[str]:
    """Return the words of a segment in the transcripts' spelling.

    Guesses in double parentheses count as said, ``a._b._c.`` becomes ``a b c``, sounds get the
    transcripts' names, ``'em`` and other words that lost their beginning begin with a hyphen.

    >>> normalise("((i think)) the i._r._s.'s [laugh] *mandatory")
    ['i', 'think', 'the', 'i', 'r', "s's", '[laughter]', 'mandatory']
    """
    text = _FOREIGN.sub(" ", text.lower().replace("*", ""))
    for dropped in _DROPPED:
        text = text.replace(dropped, " ")
    text = text.replace("(", " ").replace(")", " ")
    text = _SPELLED.sub(_letters, text)
    text = re.sub(r"[?.!]|,(?=\D|$)", " ", text)
    text = re.sub(r"(^| )'([^']*)'(?= |$)", r"\1\2", text)  # 'quoted words'
    words = []
    for word in text.replace(",", " ").split():
        word = _SOUNDS.get(word, word)
        if word.startswith("'"):
            word = word[1:] if word in _WORDS else "-" + word[1:]
        if word not in ("-", ""):
            words.append(word)
    return words


def _letters(match: re.Match[str]) -> str:
    """``i._b._m.s`` -> ``i b m's``."""
    spelled = match[0].removesuffix(match["ending"] or "")
    letters = " ".join(part for part in re.split(r"[._]+", spelled) if part)
    return letters + ("'s" if match["ending"] else "")
