"""From decoded phonemes to words, by looking pronunciations up.

A simple stand-in where no lexicon search was run: words with the same pronunciation are told apart
by their counts in the training text alone, and a pronunciation that no word has becomes the word
with the nearest one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from espnet_plugin.corpora.text_lines import fields
from espnet_plugin.data.kaldi_files import read_integers, some
from espnet_plugin.data.lexicon import WORD_END, Lexicon, Pronunciation, read_lexicon
from espnet_plugin.scoring.edit_distance import distances

WORD_COUNTS = "word_counts"  # of the training text; `make_tokens` writes it beside the lexicon


class PhonemeWords:
    """Callable from a string of phoneme labels to a string of words.

    Args:
        lexicon: words and pronunciations.
        counts: of the words in the training text; the more frequent word wins a tie.
    """

    def __init__(self, lexicon: Lexicon, counts: Mapping[str, int] | None = None) -> None:
        self.lexicon = lexicon
        counts = counts or {}
        self._words: dict[Pronunciation, str] = {}
        # the most frequent first; sorted() keeps the lexicon's order among equals
        for word in sorted(lexicon.pronunciations, key=lambda word: -counts.get(word, 0)):
            for variant in lexicon.pronunciations[word]:
                self._words.setdefault(variant, word)
        self._index = {phoneme: n for n, phoneme in enumerate(lexicon.phonemes)}
        self._variants = list(self._words)
        lengths = np.array([len(variant) for variant in self._variants], np.int64)  # [N]
        self._padded = np.full((len(lengths), int(lengths.max())), -1, np.int64)  # [N, longest]
        for row, variant in zip(self._padded, self._variants, strict=True):
            row[: len(variant)] = [self._index[phoneme] for phoneme in variant]
        self._lengths = lengths
        self._nearest: dict[Pronunciation, str] = {}

    @classmethod
    def from_files(cls, lexicon: Path) -> PhonemeWords:
        """Read a lexicon and, if it is there, the file ``word_counts`` beside it.

        Raises:
            ValueError: see `read_lexicon`; or a count that is none.
        """
        path = lexicon.with_name(WORD_COUNTS)
        table = read_integers(path) if path.is_file() else {}
        broken = [word for word, values in table.items() if len(values) != 1]
        if broken:
            raise ValueError(f"{path}: not one count: {some(broken)}; make the token list again")
        return cls(read_lexicon(lexicon), {word: values[0] for word, values in table.items()})

    def __call__(self, labels: str) -> str:
        """Labels, separated by spaces, to words, separated by spaces."""
        return " ".join(self.word(part) for part in split_words(fields(labels)))

    def word(self, pronunciation: Pronunciation) -> str:
        """The word of this pronunciation (without mark), or of the nearest one there is."""
        if pronunciation in self._words:
            return self._words[pronunciation]
        if pronunciation not in self._nearest:
            sequence = np.array([self._index.get(phoneme, -2) for phoneme in pronunciation])
            n = int(distances(sequence, self._padded, self._lengths).argmin())
            self._nearest[pronunciation] = self._words[self._variants[n]]
        return self._nearest[pronunciation]


def split_words(labels: Sequence[str]) -> Iterator[Pronunciation]:
    """Split at the end-of-word marks; what follows the last mark is a word too."""
    word: list[str] = []
    for label in labels:
        word.append(label.removesuffix(WORD_END))
        if label.endswith(WORD_END):
            yield tuple(word)
            word = []
    if word:
        yield tuple(word)
