"""The words of the Mississippi State transcripts, mark-up removed.

The rules are those of the common Switchboard recipes (Kaldi's s5c, ESPnet's egs2/swbd), with their
documented examples; tests/recipes/test_swbd_words.py pins each.
"""

from __future__ import annotations

import html
import re
from collections.abc import Mapping
from functools import cache

NOISES = ("[laughter]", "[noise]", "[vocalized-noise]")
UNKNOWN = "<unk>"

_REMOVED = ("[silence]", "<b_aside>", "<e_aside>")
_INSIDE = r"[^][]+"  # of one pair of brackets
_LAUGHED = re.compile(r"\[laughter-(.+)\](-?)", re.IGNORECASE)
_INSTEAD_OF = re.compile(r"\[(.+)/.+\](-?)")
_OPENING_LOST = re.compile(rf"(.+\[{_INSIDE}\]-)/.+\]")
_BEGINNING_UNSAID = re.compile(rf"-?\[{_INSIDE}\](.+)")
_END_UNSAID = re.compile(rf"(.+)\[{_INSIDE}\]-?")
_MIDDLE_UNSAID = re.compile(rf"(?<=\w)\[{_INSIDE}\](?=\w)")
_VARIANT = re.compile(r"_\d(?='|$)")
_LETTERS = re.compile(r"(?P<groups>[A-Z]+(?:&[A-Z]+)+)(?P<ending>'?s)?")


@cache
def plain_word(token: str) -> str:
    """Return what was said, in the case of the transcript; noises stay, silence is "".

    >>> plain_word("[laughter-story]"), plain_word("[it'n/isn't]"), plain_word("-[an]y")
    ('story', "it'n", '-y')
    """
    token = html.unescape(token)  # the dictionary writes AT&amp;T
    if token.lower() in _REMOVED:
        return ""
    if token.lower() in NOISES:
        return token.lower()
    if match := _LAUGHED.fullmatch(token):  # [laughter-story] -> story
        token = match[1] + match[2]
    if match := _INSTEAD_OF.fullmatch(token):  # [lem[guini]-/linguini] -> lem[guini]-
        token = match[1] + match[2]
    if match := _OPENING_LOST.fullmatch(token):  # ex[specially]-/especially] -> ex[specially]-
        token = match[1]
    if match := _BEGINNING_UNSAID.fullmatch(token):  # -[an]y -> -y
        token = "-" + match[1]
    if match := _END_UNSAID.fullmatch(token):  # ab[solute]- -> ab-
        token = match[1] + "-"
    token = _MIDDLE_UNSAID.sub("-", token)  # ammu[n]it- -> ammu-it-
    token = token.replace("{", "").replace("}", "")  # {yuppiedom} -> yuppiedom
    return _VARIANT.sub("", token)  # them_1 -> them, them_1's -> them's


def words_of(token: str, spelled: Mapping[str, str]) -> list[str]:
    """Return the words of a transcript's token, in lower case, acronyms as letters.

    Args:
        token: as in the transcript.
        spelled: {acronym as written: its letters}, from `spelled.spelled_words`.

    >>> words_of("IBM's", {"IBM's": "i b m's"}), words_of("AT&T", {})
    (['i', 'b', "m's"], ['a', 't', 'and', 't'])
    """
    word = plain_word(token)
    if word in spelled:
        return spelled[word].split()
    if match := _LETTERS.fullmatch(word):
        ending = "'s" if match["ending"] else ""
        letters = " and ".join(" ".join(group) for group in match["groups"].split("&"))
        return (letters + ending).lower().split()
    return word.lower().replace("&", " and ").split()


def transcript(text: str, spelled: Mapping[str, str]) -> list[str]:
    """Return the words of a line of transcript."""
    return [word for token in text.split() for word in words_of(token, spelled)]
