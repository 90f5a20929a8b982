"""Token lists in ESPnet's layout: ``<blank>``, ``<unk>``, the tokens, ``<sos/eos>``."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from espnet_plugin.corpora.atomic import write_atomically
from espnet_plugin.corpora.text_lines import SPACES, fields, read_lines
from espnet_plugin.data.text_units import characters

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


def character_tokens(transcripts: Iterable[str]) -> list[str]:
    """Characters by falling frequency, equal ones in the order of the text, as ESPnet has them."""
    counts: Counter[str] = Counter()
    for transcript in transcripts:
        counts.update(characters(transcript))
    return [token for token, _ in counts.most_common()]


def train_bpe(transcripts: Sequence[str], size: int, folder: Path, mode: str) -> list[str]:
    """Train a sentencepiece model into ``bpe.model`` and ``bpe.vocab``; return its pieces.

    A model that was made from the same text with the same options is kept: training is not the
    same to the last bit everywhere, and a model anew would make everything trained with it stale.

    Args:
        size: number of pieces, sentencepiece's own three symbols included (ESPnet's ``nbpe``).
        mode: ``unigram`` or ``bpe``.

    Raises:
        ValueError: sentencepiece refuses, e.g. since the text has too few characters.
    """
    import sentencepiece

    content = "".join(f"{transcript}\n" for transcript in transcripts)
    stamp = hashlib.sha256(f"{size} {mode}\n{content}".encode()).hexdigest() + "\n"
    model, origin = folder / "bpe.model", folder / "made_from"
    if not (model.is_file() and origin.is_file() and origin.read_text() == stamp):
        write_atomically(folder / "train.txt", content)
        origin.unlink(missing_ok=True)
        _run_sentencepiece(folder, size, mode)
        write_atomically(origin, stamp)
    pieces = sentencepiece.SentencePieceProcessor(model_file=str(model))
    # the first three pieces are <unk>, <s> and </s>
    return [pieces.id_to_piece(n) for n in range(3, pieces.get_piece_size())]


def _run_sentencepiece(folder: Path, size: int, mode: str) -> None:
    import sentencepiece

    try:
        sentencepiece.SentencePieceTrainer.train(
            input=str(folder / "train.txt"),
            vocab_size=size,
            model_type=mode,
            model_prefix=str(folder / "bpe"),
            character_coverage=1.0,
            input_sentence_size=100_000_000,
            minloglevel=2,
        )
    except RuntimeError as error:
        raise ValueError(
            f"{folder / 'train.txt'}: sentencepiece cannot make {size} pieces: "
            f"{str(error).strip()}; change --nbpe"
        ) from error
