"""From a transcript to tokens, as ESPnet's tokenizers do it, without importing ESPnet.

``char``: one token a character, ``<space>`` for a space. ``bpe``: a sentencepiece model.
``word`` and ``phn``: whatever stands between ASCII white space (of ``phn``, phonemes).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path

from espnet_plugin.corpora.text_lines import fields

SPACE = "<space>"
TOKEN_TYPES = ("char", "bpe", "phn", "word")

Tokenizer = Callable[[str], list[str]]


def characters(text: str) -> list[str]:
    """Split into characters, with ``<space>`` for a space."""
    return [SPACE if character == " " else character for character in text]


def characters_and(symbols: Sequence[str]) -> Tokenizer:
    """As `characters`, but each of these (``<noise>``) is one token, the longest that fits."""
    if not symbols:
        return characters
    longest_first = sorted(symbols, key=len, reverse=True)
    piece = re.compile("|".join([*map(re.escape, longest_first), "."]), re.DOTALL)
    return lambda text: [SPACE if found == " " else found for found in piece.findall(text)]


def make_tokenizer(
    token_type: str, bpemodel: Path | None = None, symbols: Sequence[str] = ()
) -> Tokenizer:
    """Return the function from a transcript to its tokens.

    Args:
        symbols: non-linguistic ones, each a token of its own among characters; a sentencepiece
            model knows its own.

    Raises:
        ValueError: an unknown token type, or no such sentencepiece model.
    """
    if token_type == "char":
        return characters_and(symbols)
    if token_type in ("phn", "word"):
        return fields
    if token_type != "bpe":
        raise ValueError(f"token type {token_type!r} is not one of {', '.join(TOKEN_TYPES)}")
    if bpemodel is None or not bpemodel.is_file():
        raise ValueError(f"{bpemodel}: no such sentencepiece model; token type bpe needs one")
    import sentencepiece

    model = sentencepiece.SentencePieceProcessor(model_file=str(bpemodel))

    def pieces(text: str) -> list[str]:
        return list(model.encode(text, out_type=str))

    return pieces
