"""From decoded tokens to words, the inverse of a training configuration's text processing."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path


def make_detokenizer(train_args: argparse.Namespace) -> Callable[[list[str]], str]:
    """tokens -> text by ESPnet's own tokenizers, or by the lexicon for phoneme labels."""
    if getattr(train_args, "preprocessor", None) == "lexicon":
        from espnet_plugin.data.phoneme_words import PhonemeWords

        words = PhonemeWords.from_files(Path(train_args.preprocessor_conf["lexicon"]))
        return lambda tokens: words(" ".join(tokens))

    from espnet2.text.build_tokenizer import build_tokenizer

    if train_args.token_type == "bpe":
        tokenizer = build_tokenizer("bpe", bpemodel=train_args.bpemodel)
    else:
        tokenizer = build_tokenizer(train_args.token_type)
    return lambda tokens: str(tokenizer.tokens2text(tokens)) if tokens else ""
