"""Text of words -> phoneme labels, registered as `preprocessor: lexicon`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from espnet2.train.preprocessor import CommonPreprocessor

from espnet_plugin.corpora.text_lines import fields
from espnet_plugin.data.lexicon import mark_word_end, read_lexicon
from espnet_plugin.models.variants import pack_variants


class LexiconPreprocessor(CommonPreprocessor):
    """ESPnet's preprocessor, with words replaced by their pronunciations first.

    Use with `token_type: word` and a token list of phonemes, half of them with the end-of-word
    mark (method.md, "Model").

    Args:
        lexicon: pronunciation lexicon file.
        variants: also give the labels of all variants of all words, as ``variants``
            (`espnet_plugin.models.variants`).
        others: CommonPreprocessor's.
    """

    def __init__(
        self, *args: Any, lexicon: str | Path | None = None, variants: bool = False, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        if lexicon is None:
            raise ValueError("preprocessor lexicon needs preprocessor_conf: {lexicon: FILE}")
        self.lexicon = read_lexicon(Path(lexicon))
        self.variants = variants

    def _text_process(self, data: dict[str, str | np.ndarray]) -> dict[str, np.ndarray]:
        if isinstance(data.get(self.text_name), str):
            words = fields(str(data[self.text_name]))
            data[self.text_name] = " ".join(self.lexicon.labels(words))
            if self.variants:
                data["variants"] = self._packed_variants(words)
        result: dict[str, np.ndarray] = super()._text_process(data)
        return result

    def _packed_variants(self, words: list[str]) -> np.ndarray:
        numbers = [
            [
                [int(n) for n in self.token_id_converter.tokens2ids(list(mark_word_end(variant)))]
                for variant in self.lexicon.pronunciations[word]
            ]
            for word in words
        ]
        return np.array(pack_variants(numbers), dtype=np.int64)
