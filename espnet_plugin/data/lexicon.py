"""Pronunciation lexica and phoneme labels with end-of-word marks.

The label set is every phoneme of the lexicon and its end-of-word version, written ``ph#``: with
it, words can be read off a label sequence, and a label context of one tells where a word begins
(Zhou et al., arXiv 2010.16368, section 3.1).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from espnet_plugin.corpora.atomic import write_atomically
from espnet_plugin.corpora.text_lines import fields, read_lines

WORD_END = "#"

Pronunciation = tuple[str, ...]

_VARIANT = re.compile(r"(?<=.)\(\d+\)$")
_NOISE = re.compile(r"\[.+\]|<.+>")


@dataclass(frozen=True)
class Lexicon:
    """Words and their pronunciations, the variants of each in the file's order.

    Raises:
        ValueError: no word, or a phoneme that ends in the word-end mark.
    """

    pronunciations: Mapping[str, tuple[Pronunciation, ...]]
    source: str = "lexicon"

    def __post_init__(self) -> None:
        if not self.pronunciations:
            raise ValueError(f"{self.source}: holds no word")
        marked = [phoneme for phoneme in self.phonemes if phoneme.endswith(WORD_END)]
        if marked:
            raise ValueError(
                f"{self.source}: phonemes must not end in {WORD_END!r}, which marks the end of a "
                f"word: {', '.join(marked)}; rename them"
            )

    @property
    def phonemes(self) -> list[str]:
        """All phonemes, sorted."""
        variants = (v for several in self.pronunciations.values() for v in several)
        return sorted({phoneme for variant in variants for phoneme in variant})

    @property
    def label_set(self) -> list[str]:
        """Each phoneme, followed by its end-of-word version.

        Words in brackets, ``[noise]`` or ``<unk>``, are none: their sounds make up no words, hence
        a phoneme that only they have needs no version for the inside of words (Zhou et al.: 2 x 42
        phonemes and 3 noises of Switchboard are 87 labels).
        """
        inside = {
            phoneme
            for word, variants in self.pronunciations.items()
            for variant in variants
            for phoneme in (variant[:-1] if _NOISE.fullmatch(word) else variant)
        }
        labels = []
        for phoneme in self.phonemes:
            labels += [phoneme, phoneme + WORD_END] if phoneme in inside else [phoneme + WORD_END]
        return labels

    def labels(self, words: Sequence[str]) -> list[str]:
        """Labels of a word sequence, the last phoneme of each word marked.

        A word stands for its first variant, ``word(2)`` for its second.

        Raises:
            ValueError: naming all the words that the lexicon lacks.
        """
        self.require(words)
        return [label for word in words for label in mark_word_end(self._variant(word))]

    def _variant(self, word: str) -> Pronunciation:
        """The pronunciation that a word, numbered or not, stands for."""
        if word in self.pronunciations:
            return self.pronunciations[word][0]
        plain, number = split_variant(word)
        return self.pronunciations[plain][number]

    def _knows(self, word: str) -> bool:
        plain, number = split_variant(word)
        known = word in self.pronunciations
        return known or 0 <= number < len(self.pronunciations.get(plain, ()))

    def require(self, words: Iterable[str]) -> None:
        """Check that every word has a pronunciation.

        Raises:
            ValueError: naming all the words that the lexicon lacks.
        """
        missing = self.missing(words)
        if missing:
            raise ValueError(
                f"{self.source}: {len(missing)} words have no pronunciation: {' '.join(missing)}; "
                "add them to the lexicon, or make it with make_tokens --g2p g2p_en"
            )

    def missing(self, words: Iterable[str]) -> list[str]:
        """Words without a pronunciation, each once, sorted."""
        return sorted({word for word in words if not self._knows(word)})

    def with_words(self, words: Iterable[str], g2p: Callable[[str], Sequence[str]]) -> Lexicon:
        """Return this lexicon and, for the words it lacks, what a G2P model says.

        Raises:
            ValueError: the model gives no phoneme for a word, or one the lexicon does not have.
        """
        known, made = set(self.phonemes), dict(self.pronunciations)
        for word in self.missing(words):
            phonemes = tuple(g2p(word))
            foreign = sorted(set(phonemes) - known)
            if foreign or not phonemes:
                raise ValueError(
                    f"{self.source}: the G2P model says {' '.join(phonemes)!r} for {word!r}, "
                    f"of which the lexicon has no {', '.join(foreign) or 'phoneme'}; "
                    "add the word to the lexicon by hand"
                )
            made[word] = (phonemes,)
        return Lexicon(made, self.source)


def numbered_word(word: str, variant: int) -> str:
    """The word as a transcript names its variant, counted from 0: ``the``, ``the(2)``, ..."""
    return word if variant == 0 else f"{word}({variant + 1})"


def split_variant(word: str) -> tuple[str, int]:
    """``the(2)`` -> (``the``, 1); a word without number is its variant 0."""
    found = _VARIANT.search(word)
    return (word, 0) if found is None else (word[: found.start()], int(found.group()[1:-1]) - 1)


def read_lexicon(path: str | Path, *, probabilities: bool = False) -> Lexicon:
    """Read a lexicon of lines ``word ph ph ...``.

    Variants stand on lines of their own, the word repeated or numbered as ``word(2)``. A numbered
    word is a variant only if the plain word is there too.

    Args:
        probabilities: whether the second column is a probability; the most probable variant of a
            word then comes first, as variants are applied in order.

    Raises:
        ValueError: a missing or empty file, a word without phonemes, a column that is no
            probability, or a probability where none was announced.
    """
    path = Path(path)
    weighted = _read_weighted(path, probabilities)
    return Lexicon({word: tuple(variants) for word, variants in weighted.items()}, str(path))


def read_weights(path: str | Path) -> dict[str, list[float]]:
    """Probabilities of a lexicon's variants, in the order of ``read_lexicon(probabilities=True)``.

    Raises:
        ValueError: see `read_lexicon`.
    """
    weighted = _read_weighted(Path(path), probabilities=True)
    return {word: list(variants.values()) for word, variants in weighted.items()}


def _read_weighted(path: Path, probabilities: bool) -> dict[str, dict[Pronunciation, float]]:
    """Words, and their variants with weights, the likeliest first."""
    entries: dict[str, dict[Pronunciation, float]] = {}
    for number, line in enumerate(read_lines(path, "lines are `word phoneme phoneme ...`"), 1):
        columns = fields(line)
        if not columns or line.startswith(";;;"):  # comments of the CMU dictionary
            continue
        word, weight, phonemes = columns[0], 1.0, columns[1:]
        where = f"{path}:{number}: word {word}"
        if probabilities:
            weight, phonemes = _probability(phonemes, where), phonemes[1:]
        if not phonemes:
            raise ValueError(f"{where}: no phoneme; complete or remove the line")
        if not probabilities and _is_number(phonemes[0]):
            raise ValueError(
                f"{where}: {phonemes[0]!r} looks like a probability; say --lexicon_probabilities"
            )
        entries.setdefault(word, {}).setdefault(tuple(phonemes), weight)
    merged: dict[str, dict[Pronunciation, float]] = {}
    for word, variants in entries.items():
        plain = _VARIANT.sub("", word)
        target = merged.setdefault(plain if plain in entries else word, {})
        for pronunciation, weight in variants.items():
            target.setdefault(pronunciation, weight)
    return {  # sorted() is stable: without probabilities the file's order stays
        word: dict(sorted(variants.items(), key=lambda variant: -variant[1]))
        for word, variants in merged.items()
    }


def write_lexicon(path: Path, lexicon: Lexicon) -> None:
    """Write one line per pronunciation, the words sorted, the variants in their order."""
    lines = [
        f"{word} {' '.join(variant)}\n"
        for word in sorted(lexicon.pronunciations)
        for variant in lexicon.pronunciations[word]
    ]
    write_atomically(path, "".join(lines))


def mark_word_end(pronunciation: Sequence[str]) -> Pronunciation:
    """Replace the last phoneme by its end-of-word version."""
    return (*pronunciation[:-1], pronunciation[-1] + WORD_END)


def _is_number(text: str) -> bool:
    return re.fullmatch(r"\d*\.\d+([eE][-+]?\d+)?", text) is not None


def _probability(columns: Sequence[str], where: str) -> float:
    try:
        value = float(columns[0])
    except (IndexError, ValueError):
        value = -1.0
    if not 0 <= value <= 1:
        raise ValueError(f"{where}: the second column must be a probability, found {columns[:1]}")
    return value
