"""From decoded tokens to words, the inverse of a training configuration's text processing."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

from espnet_plugin.corpora.text_lines import fields
from espnet_plugin.data.model_frames import frames_from_config
from espnet_plugin.inference.language_models import label_style
from espnet_plugin.search import Hypothesis, TimedWord, token_words


def make_detokenizer(train_args: argparse.Namespace) -> Callable[[list[str]], str]:
    """tokens -> text by ESPnet's own tokenizers, or by the lexicon for phoneme labels."""
    if getattr(train_args, "preprocessor", None) == "lexicon":
        from espnet_plugin.scoring.phoneme_words import PhonemeWords

        words = PhonemeWords.from_files(Path(train_args.preprocessor_conf["lexicon"]))
        return lambda tokens: words(" ".join(tokens))

    from espnet2.text.build_tokenizer import build_tokenizer

    if train_args.token_type == "bpe":
        tokenizer = build_tokenizer("bpe", bpemodel=train_args.bpemodel)
    else:
        tokenizer = build_tokenizer(train_args.token_type)
    return lambda tokens: str(tokenizer.tokens2text(tokens)) if tokens else ""


class WordOutput:
    """Text and timed words of hypotheses.

    Args:
        token_list: names of the model's labels.
        train_args: of the model's training.
        feature_shift: seconds per feature frame, for extracted features.
    """

    def __init__(
        self, token_list: Sequence[str], train_args: argparse.Namespace, feature_shift: float
    ) -> None:
        self._tokens = list(token_list)
        self._to_text = make_detokenizer(train_args)
        self._style = label_style(train_args)
        raw = train_args.input_size is None
        frames = frames_from_config(vars(train_args), "raw" if raw else "extracted")
        #: seconds per sample of raw audio, or per feature frame; None where it is not known
        self.input_shift = feature_shift if not raw else 1.0 / frames.fs if frames.fs else None
        hop = frames.hop * self.input_shift if frames.hop and self.input_shift else feature_shift
        #: seconds per feature frame, and where the first frame begins
        self.hop = hop
        self.begin = 0.0 if frames.centred or not raw else -hop / 2
        #: seconds per encoder frame; None where it is not known
        self.frame_shift = hop * frames.subsampling.factor if frames.subsampling else None

    def sound_seconds(self, span: tuple[int, int]) -> tuple[float, float]:
        """Beginning and end of some feature frames (the end excluded), seconds."""
        first, end = span
        return first * self.hop + self.begin, end * self.hop + self.begin

    def symbols(self, found: Hypothesis) -> list[str]:
        """Names of the tokens."""
        return [self._tokens[token] for token in found.tokens]

    def text(self, found: Hypothesis) -> str:
        """Words; those of a lexicon search as it knows them (homophones differ)."""
        return " ".join(found.words) if found.words else self._to_text(self.symbols(found))

    def timed(self, found: Hypothesis, frames: Sequence[int]) -> list[TimedWord]:
        """The words with the encoder frames of their first and last label.

        Nothing where ``frames`` are not those of all labels, or it is not known how words are made
        of labels.
        """
        if len(frames) != len(found.tokens):
            return []
        if found.words:
            spans = zip(found.words, found.word_labels, strict=True)
            return [TimedWord(word, frames[a], frames[b]) for word, (a, b) in spans]
        if self._style is None:
            return []
        words = token_words(self.symbols(found), frames, self._style)
        names = fields(self.text(found))
        if len(names) != len(words):  # a label that text processing drops
            return [w for w in words if self._style != "phn"]
        pairs = zip(names, words, strict=True)
        return [TimedWord(name, w.first, w.last) for name, w in pairs]
