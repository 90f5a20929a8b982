"""Word and character error rates of validation batches, from label sequences."""

from __future__ import annotations

from torch import Tensor

from espnet_plugin.corpora.text_lines import fields, single_spaced
from espnet_plugin.search.levenshtein import levenshtein

WORD_END = "#"  # end-of-word mark of phoneme labels (method.md, "Model")


def join_tokens(tokens: list[str]) -> str:
    """Tokens of any label type -> text: characters with <space>, BPE with "▁", or phonemes.

    Phonemes of a word are joined by "." so that a word is one pronunciation.
    """
    if any(len(token) > 1 and token.endswith(WORD_END) for token in tokens):
        words, word = [], []
        for token in tokens:
            word.append(token.removesuffix(WORD_END))
            if token.endswith(WORD_END):
                words.append(".".join(word))
                word = []
        if word:
            words.append(".".join(word))
        return " ".join(words)
    text = "".join(" " if token == "<space>" else token for token in tokens)
    return single_spaced(text.replace("▁", " "))


class ErrorRates:
    """Counts for `cer` (of labels) and `wer` (of words), as ESPnet's error calculators log them.

    With phoneme labels a word counts as right when its pronunciation is; scoring of the decoded
    text (`espnet-progressive score`) goes through the lexicon and is the number to quote.
    """

    def __init__(self, token_list: list[str]) -> None:
        self.token_list = token_list

    def __call__(
        self, hypotheses: list[list[int]], targets: Tensor, target_lengths: Tensor
    ) -> dict[str, tuple[int, int]]:
        """Errors and reference labels (`cer`) or words (`wer`) of a batch."""
        label_errors = labels = word_errors = words = 0
        for hypothesis, row, length in zip(
            hypotheses, targets.tolist(), target_lengths.tolist(), strict=True
        ):
            reference = row[:length]
            label_errors += levenshtein(hypothesis, reference)
            labels += len(reference)
            expected = self._words(reference)
            word_errors += levenshtein(self._words(hypothesis), expected)
            words += len(expected)
        return {"cer": (label_errors, labels), "wer": (word_errors, words)}

    def _words(self, tokens: list[int]) -> list[str]:
        return fields(join_tokens([self.token_list[token] for token in tokens]))
