"""`Speech2Text` for both topologies: ESPnet's class, our search.

from espnet_plugin.bin.asr_inference import Speech2Text
recognise = Speech2Text("exp/tag/full_sum/config.yaml", "exp/tag/full_sum/valid.loss.ave.pth")
text, tokens, token_ids, hypothesis = recognise(speech)[0]
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from espnet2.bin.asr_inference import Speech2Text as ESPnetSpeech2Text
from espnet2.utils.pretrained import download_pretrained

from espnet_plugin.search import Hypothesis
from espnet_plugin.tasks.batch_job import encode, load_model
from espnet_plugin.tasks.search_options import add_search_arguments
from espnet_plugin.tasks.searchers import SEARCHES, add_lexicon_arguments, make_searcher
from espnet_plugin.tasks.text_output import make_detokenizer

# One utterance's N-best list, as ESPnet's Speech2Text returns it
Results = list[tuple[str, list[str], list[int], Hypothesis]]
Speech = torch.Tensor | np.ndarray


class Speech2Text(ESPnetSpeech2Text):
    """A trained model as a function from speech to text.

    Args:
        asr_train_config: config.yaml of the training.
        asr_model_file: model parameters.
        device: "cpu" or "cuda".
        options: those of `espnet-progressive decode` by keyword: search, beam_size, nbest,
            ilm_scale, ngram_file, lm_scale, lexicon, word_lm, ...

    Raises:
        ValueError: an unknown option, a missing file, or a model that is not ours.
    """

    def __init__(
        self,
        asr_train_config: Path | str,
        asr_model_file: Path | str,
        device: str = "cpu",
        **options: Any,
    ) -> None:
        args = search_options(options)
        args.train_config, args.model_file = Path(asr_train_config), Path(asr_model_file)
        args.ngpu = int(device.startswith("cuda"))
        self.asr_model, self.asr_train_args = load_model(args)
        self.device = device
        self.search = make_searcher(args, self.asr_model, self.asr_train_args)
        self.to_text = make_detokenizer(self.asr_train_args)
        self.words = args.search == "lexicon"

    @torch.no_grad()
    def __call__(self, speech: Speech | Sequence[Speech]) -> Any:  # type: ignore[override]
        """Recognises one utterance, or a list of them in one batch.

        Args:
            speech: samples [L] at the model's rate, or features [T', F]; or a list of such.

        Returns:
            The N-best list [(text, tokens, token ids, hypothesis), ...]; for a list of utterances
            a list of N-best lists.

        Raises:
            ValueError: an empty utterance.
        """
        if isinstance(speech, list | tuple):
            return self._batch(speech)
        single: Any = speech
        return self._batch([single])[0]

    def _batch(self, utterances: Sequence[Speech]) -> list[Results]:
        tensors = [torch.as_tensor(u, dtype=torch.float32, device=self.device) for u in utterances]
        empty = [number for number, tensor in enumerate(tensors) if not len(tensor)]
        if empty:
            raise ValueError(f"utterances {empty} of the batch are empty: there is nothing to hear")
        if not tensors:
            return []
        lengths = torch.tensor([len(tensor) for tensor in tensors], device=self.device)
        padded = torch.nn.utils.rnn.pad_sequence(tensors, batch_first=True)
        batch = {"speech": padded, "speech_lengths": lengths}
        lists = self.search(*encode(self.asr_model, batch))
        return [[self._result(hypothesis) for hypothesis in nbest] for nbest in lists]

    def _result(self, found: Hypothesis) -> tuple[str, list[str], list[int], Hypothesis]:
        tokens = [self.asr_model.token_list[token] for token in found.tokens]
        text = " ".join(found.words) if self.words else self.to_text(tokens)
        return text, tokens, list(found.tokens), found

    @staticmethod
    def from_pretrained(model_tag: str | None = None, **kwargs: Any) -> Speech2Text:
        """A packed model: a zip file, a URL or a Hub id, found as ESPnet's model zoo finds it."""
        if model_tag is not None:
            kwargs = {**download_pretrained(model_tag), **kwargs}
        return Speech2Text(**kwargs)


def search_options(given: dict[str, Any]) -> argparse.Namespace:
    """The search options of `decode`, with some given by keyword.

    Raises:
        ValueError: naming the options that do not exist, or a search that does not.
    """
    parser = argparse.ArgumentParser()
    parser.add_argument("--search", default="beam")
    add_search_arguments(parser, lm_scale=0.0)
    add_lexicon_arguments(parser)
    args = parser.parse_args([])
    unknown = sorted(set(given) - set(vars(args)))
    if unknown:
        raise ValueError(f"unknown options {unknown}; there are {sorted(vars(args))}")
    for name, value in given.items():
        setattr(args, name, value)
    if args.search not in SEARCHES:
        raise ValueError(f"search must be one of {SEARCHES}, got {args.search!r}")
    return args
