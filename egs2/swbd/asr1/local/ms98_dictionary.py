"""The Mississippi State dictionary ``sw-ms98-dict.text`` as a lexicon of the prepared words.

42 phonemes, each also as the last one of a word, and one label for each of the three noises: the
87 labels of the paper.
"""

from __future__ import annotations

import logging
from pathlib import Path

from ms98_words import NOISES, UNKNOWN, plain_word, words_of
from spelled import is_spelled, letter_pronunciations, spelled_words

_VOWELS = "aa ae ah ao aw ax ay eh er ey ih iy ow oy uh uw"
_CONSONANTS = "b ch d dh el en f g hh jh k l m n ng p r s sh t th v w y z zh"
PHONEMES = frozenset(f"{_VOWELS} {_CONSONANTS}".split())  # 42
# Kaldi's names of the noises' phonemes; an unknown word sounds like a vocalized noise.
NOISE_PHONEMES = {
    "[laughter]": "lau", "[noise]": "nsn", "[vocalized-noise]": "spn", UNKNOWN: "spn"
}  # fmt: skip
_SILENCE = "sil"
_MAX_ODD_SHARE = 0.01

Dictionary = dict[str, list[tuple[str, ...]]]


def read_dictionary(path: Path, problems: list[str]) -> Dictionary:
    """Read ``word phoneme phoneme ...``; words keep their case, mark-up is removed from them."""
    if not path.is_file():
        problems.append(f"{path}: missing; it comes with the Mississippi State transcripts")
        return {}
    entries: Dictionary = {}
    odd: dict[str, str] = {}
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        columns = line.split()
        if len(columns) < 2 or line.startswith("#"):  # a few words have no pronunciation
            continue
        word, phonemes = plain_word(columns[0]), tuple(columns[1:])
        if not word or word in NOISES or _SILENCE in phonemes:
            continue
        foreign = [phoneme for phoneme in phonemes if phoneme not in PHONEMES]
        if foreign:
            odd.update((phoneme, word) for phoneme in foreign)
            continue
        pronunciations = entries.setdefault(word, [])
        if phonemes not in pronunciations:
            pronunciations.append(phonemes)
    if odd:
        listed = ", ".join(f"{symbol} (in {word})" for symbol, word in sorted(odd.items())[:10])
        text = f"{path}: symbols that are none of the 42 phonemes of this dictionary: {listed}"
        if len(odd) > _MAX_ODD_SHARE * len(entries):
            problems.append(f"{text}; is this sw-ms98-dict.text of the transcripts' archive?")
        else:
            logging.warning("%s; these lines were left out", text)
    if not entries:
        problems.append(f"{path}: holds no word; unpack the transcripts' archive again")
    return entries


def make_lexicon(dictionary: Dictionary) -> tuple[Dictionary, dict[str, str]]:
    """Return the lexicon of the prepared words, and the acronyms that became letters."""
    spelled = spelled_words(dictionary)
    lexicon: Dictionary = {}
    for word, pronunciations in dictionary.items():
        written = words_of(word, {})
        if len(written) != 1:  # A&E: its parts are words of their own
            continue
        for pronunciation in pronunciations:
            if word in spelled and is_spelled(word, pronunciation):
                continue
            _add(lexicon, written[0], pronunciation)
    for word, pronunciation in letter_pronunciations().items():
        _add(lexicon, word, pronunciation)
    _add(lexicon, "and", ("ae", "n", "d"))
    for noise, phoneme in NOISE_PHONEMES.items():
        _add(lexicon, noise, (phoneme,))
    missing = PHONEMES - {p for several in lexicon.values() for variant in several for p in variant}
    if missing:
        logging.warning("the dictionary lacks phonemes: %s", " ".join(sorted(missing)))
    return lexicon, spelled


def lexicon_text(lexicon: Dictionary) -> str:
    """Return the lines ``word phoneme phoneme ...``, sorted by word, variants in their order."""
    lines = [f"{w} {' '.join(v)}\n" for w in sorted(lexicon) for v in lexicon[w]]
    return "".join(lines)


def _add(lexicon: Dictionary, word: str, pronunciation: tuple[str, ...]) -> None:
    pronunciations = lexicon.setdefault(word, [])
    if pronunciation not in pronunciations:
        pronunciations.append(pronunciation)
