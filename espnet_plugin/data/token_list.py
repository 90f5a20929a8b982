"""Token lists in ESPnet's layout: ``<blank>``, ``<unk>``, the tokens, ``<sos/eos>``."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from espnet_plugin.corpora.atomic import write_atomically
from espnet_plugin.corpora.faults import AGAIN
from espnet_plugin.corpora.text_lines import SPACES, fields, read_lines
from espnet_plugin.data.text_units import characters_and

BLANK, UNKNOWN, SENTENCE_EDGE = "<blank>", "<unk>", "<sos/eos>"


def read_token_list(path: Path) -> list[str]:
    """Read a token list, one token a line.

    Raises:
        ValueError: a missing or empty file, a token twice, or blank not first.
    """
    tokens = [line.rstrip(SPACES) for line in read_lines(path, "make it with make_tokens")]
    twice = [token for token, count in Counter(tokens).items() if count > 1]
    if twice:
        raise ValueError(f"{path}: tokens listed twice: {' '.join(twice)}; make the list again")
    if not tokens or tokens[0] != BLANK:
        raise ValueError(f"{path}: the first token must be {BLANK}, found {tokens[:1]}")
    return tokens


def write_token_list(path: Path, tokens: Iterable[str]) -> None:
    """Write the tokens with ESPnet's special symbols around them.

    Raises:
        ValueError: a token that is a special symbol or contains a space.
    """
    tokens = list(tokens)
    special = {BLANK, UNKNOWN, SENTENCE_EDGE}
    wrong = [token for token in tokens if token in special or fields(token) != [token]]
    if wrong:
        raise ValueError(f"{path}: not usable as tokens: {wrong}; change the text or the lexicon")
    lines = [BLANK, UNKNOWN, *tokens, SENTENCE_EDGE]
    write_atomically(path, "".join(f"{token}\n" for token in lines))


def character_tokens(transcripts: Iterable[str], symbols: Sequence[str] = ()) -> list[str]:
    """Characters by falling frequency, equal ones in the order of the text, as ESPnet has them.

    Args:
        symbols: such as ``<noise>``, which are one token each.
    """
    counts: Counter[str] = Counter()
    tokenize = characters_and(symbols)
    for transcript in transcripts:
        counts.update(tokenize(transcript))
    return [token for token, _ in counts.most_common()]


@dataclass(frozen=True)
class Subwords:
    """What sentencepiece is to make.

    Attributes:
        size: number of pieces, sentencepiece's own three symbols included (ESPnet's ``nbpe``).
        mode: ``unigram`` or ``bpe``.
        symbols: such as ``<noise>``, a piece each.
        coverage: share of the characters that get a piece.
        sentences: at most so many are looked at.
    """

    size: int
    mode: str
    symbols: tuple[str, ...] = ()
    coverage: float = 1.0
    sentences: int = 100_000_000

    def __str__(self) -> str:
        plain = f"{self.size} {self.mode}"
        if self == Subwords(self.size, self.mode):
            return plain
        return f"{plain} {self.symbols} {self.coverage} {self.sentences}"


def train_bpe(transcripts: Sequence[str], wanted: Subwords, folder: Path) -> list[str]:
    """Train a sentencepiece model into ``bpe.model`` and ``bpe.vocab``; return its pieces.

    A model that was made from the same text with the same options is kept: training is not the
    same to the last bit everywhere, and a model anew would make everything trained with it stale.

    Raises:
        ValueError: sentencepiece refuses, e.g. since the text has too few characters.
    """
    import sentencepiece

    content = "".join(f"{transcript}\n" for transcript in transcripts)
    stamp = hashlib.sha256(f"{wanted}\n{content}".encode()).hexdigest() + "\n"
    model, origin = folder / "bpe.model", folder / "made_from"
    if not (model.is_file() and origin.is_file() and origin.read_text() == stamp):
        write_atomically(folder / "train.txt", content)
        origin.unlink(missing_ok=True)
        _run_sentencepiece(folder, wanted)
    try:
        pieces = sentencepiece.SentencePieceProcessor(model_file=str(model))
    except RuntimeError as error:  # sentencepiece does not notice a full disk when it writes
        raise ValueError(
            f"{model}: damaged ({str(error).strip()}); is the disk full? Delete it, {AGAIN}"
        ) from error
    write_atomically(origin, stamp)
    # the first three pieces are <unk>, <s> and </s>
    return [pieces.id_to_piece(n) for n in range(3, pieces.get_piece_size())]


def _run_sentencepiece(folder: Path, wanted: Subwords) -> None:
    import sentencepiece

    try:
        sentencepiece.SentencePieceTrainer.train(
            input=str(folder / "train.txt"),
            vocab_size=wanted.size,
            model_type=wanted.mode,
            model_prefix=str(folder / "bpe"),
            character_coverage=wanted.coverage,
            input_sentence_size=wanted.sentences,
            user_defined_symbols=list(wanted.symbols),
            minloglevel=2,
        )
    except RuntimeError as error:
        raise ValueError(
            f"{folder / 'train.txt'}: sentencepiece cannot make {wanted.size} pieces: "
            f"{str(error).strip()}; change --nbpe"
        ) from error
