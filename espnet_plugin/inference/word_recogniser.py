"""A loaded model as the recogniser of `transcription`: pieces of audio to words with times.

Shapes: L samples, B pieces.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from espnet_plugin.corpora.text_lines import fields
from espnet_plugin.data.model_frames import frames_from_config
from espnet_plugin.inference.batch_job import encode_with_features
from espnet_plugin.inference.text_output import WordOutput
from espnet_plugin.inference.word_times import spoken_words, words_in_sound
from espnet_plugin.transcription.words import Word

_LOG = logging.getLogger(__name__)


class WordRecogniser:
    """Recognises batches of pieces.

    Args:
        loaded: our `Speech2Text`.
        method: of word times, see `spoken_words`.

    Attributes:
        rate: samples per second that the model takes.

    Raises:
        ValueError: the model takes no audio, or it is not known at which rate.
    """

    def __init__(self, loaded: Any, method: str = "align") -> None:
        self._loaded, self._method = loaded, method
        train_args = loaded.asr_train_args
        if train_args.input_size is not None:
            raise ValueError(
                f"this model was trained on extracted features of {train_args.input_size} "
                "dimensions, so it takes no audio; transcribe needs one that was trained on audio "
                "(--feats_type raw); features are decoded with espnet-progressive decode"
            )
        fs = frames_from_config(vars(train_args), "raw").fs
        if not fs:
            raise ValueError("the model's configuration does not tell its sampling rate")
        self.rate = fs
        self._words = WordOutput(loaded.asr_model.token_list, train_args, feature_shift=0.0)
        self._warned = False

    @torch.no_grad()
    def __call__(self, pieces: Sequence[np.ndarray]) -> list[list[Word]]:
        """Words of every piece [L], with seconds from its beginning."""
        tensors = [torch.as_tensor(piece, device=self._loaded.device) for piece in pieces]
        lengths = torch.tensor([len(tensor) for tensor in tensors], device=self._loaded.device)
        padded = torch.nn.utils.rnn.pad_sequence(tensors, batch_first=True)  # [B, L]
        model = self._loaded.asr_model
        batch = {"speech": padded, "speech_lengths": lengths}
        frames, frame_lengths, feats, feat_lengths = encode_with_features(model, batch)
        lists = self._loaded.search(frames, frame_lengths)
        timed = spoken_words(model, self._words, lists, frames, frame_lengths, self._method)
        boundaries = self._loaded.boundaries
        timed = words_in_sound(timed, self._words, boundaries, feats, feat_lengths)
        out = []
        for piece, found, words in zip(pieces, lists, timed, strict=True):
            seconds = len(piece) / self.rate
            said = fields(self._words.text(found[0]))  # none, if all labels are spaces
            if said and not words:
                out.append(self._spread(said, seconds))
                continue
            ends = [min(word.start + word.duration, seconds) for word in words]
            out.append(
                [
                    Word(w.word, min(w.start, end), end, w.confidence)
                    for w, end in zip(words, ends, strict=True)
                ]
            )
        return out

    def _spread(self, words: list[str], seconds: float) -> list[Word]:
        """Words without times, as an aligner's output layer gives them, at equal distances."""
        if not self._warned:
            _LOG.warning("this model and search give no word times; words are spread evenly")
            self._warned = True
        each = seconds / len(words)
        return [Word(word, n * each, (n + 1) * each) for n, word in enumerate(words)]
