"""Text of words -> phoneme labels, registered as `preprocessor: lexicon`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from espnet2.train.preprocessor import CommonPreprocessor


class LexiconPreprocessor(CommonPreprocessor):
    """ESPnet's preprocessor, with words replaced by their pronunciations first.

    Use with `token_type: word` and a token list of phonemes, half of them with the end-of-word
    mark (method.md, "Model").

    Args:
        lexicon: pronunciation lexicon file.
        others: CommonPreprocessor's.
    """

    def __init__(self, *args: Any, lexicon: str | Path | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if lexicon is None:
            raise ValueError("preprocessor lexicon needs preprocessor_conf: {lexicon: FILE}")
        from espnet_plugin.data.lexicon import read_lexicon

        self.lexicon = read_lexicon(Path(lexicon))

    def _text_process(self, data: dict[str, str | np.ndarray]) -> dict[str, np.ndarray]:
        if isinstance(data.get(self.text_name), str):
            words = str(data[self.text_name]).split()
            data[self.text_name] = " ".join(self.lexicon.labels(words))
        result: dict[str, np.ndarray] = super()._text_process(data)
        return result
