"""Training text of language models: a Kaldi text in the units of the model.

``word``: as it is. Else the labels of a transducer: characters, sentencepiece units, or phonemes
with end-of-word marks (a word's first pronunciation, as in training the transducer).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from espnet_plugin.corpora.faults import naming
from espnet_plugin.corpora.text_lines import fields, read_lines, single_spaced
from espnet_plugin.data.lexicon import read_lexicon
from espnet_plugin.data.text_units import make_tokenizer

# More sentences than this without pronunciation mean a wrong lexicon, not rare words.
MAX_DROPPED = 0.5


def make_units(
    units: str,
    bpemodel: Path | None = None,
    lexicon: Path | None = None,
    symbols: Sequence[str] = (),
) -> Callable[[str], list[str] | None]:
    """Function from a transcript to its units; None where a word has no pronunciation.

    Args:
        symbols: such as ``<noise>``, a character each.

    Raises:
        ValueError: an unknown unit, or a file that it needs is missing.
    """
    if units != "phn":
        return make_tokenizer(units, bpemodel, symbols)
    if lexicon is None:
        raise ValueError("units phn need --lexicon, the one that make_tokens wrote")
    words = read_lexicon(lexicon)

    def pronounce(text: str) -> list[str] | None:
        spoken = fields(text)
        return None if words.missing(spoken) else words.labels(spoken)

    return pronounce


def read_sentences(path: Path) -> Iterator[tuple[str, str]]:
    """``(id, transcript)`` of a Kaldi text, line by line: it may be too large for the memory.

    Raises:
        ValueError: no such file, or not UTF-8.
    """
    for line in read_lines(path, "a language model needs a text to train on"):
        key, *words = fields(line) or [""]
        if words:
            yield key, " ".join(words)


def write_units(
    source: Path,
    target: Path,
    units: Callable[[str], list[str] | None],
    *,
    ids: bool,
    clean: Callable[[str], str] | None = None,
) -> int:
    """Write a text in units; returns the number of sentences.

    Args:
        ids: whether lines keep their utterance ids.
        clean: applied to every sentence first.

    Raises:
        ValueError: nothing is left, or most sentences hold words without pronunciation.
    """
    kept = dropped = 0
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(target.name + ".partial")
    with naming(target), partial.open("w", encoding="utf-8") as stream:
        for key, text in read_sentences(source):
            found = units(text if clean is None else single_spaced(clean(text)))
            if not found:
                dropped += 1
                continue
            kept += 1
            stream.write(f"{key} {' '.join(found)}\n" if ids else " ".join(found) + "\n")
    if dropped:
        logging.warning("%s: %d sentences with words that the lexicon lacks", source, dropped)
    if not kept or dropped > MAX_DROPPED * (kept + dropped):
        raise ValueError(
            f"{source}: {kept} sentences are of use, {dropped} hold words without pronunciation; "
            "is it a Kaldi text (id, then words), and does the lexicon belong to it?"
        )
    partial.replace(target)
    return kept
