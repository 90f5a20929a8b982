"""`Speech2Text` for both topologies: ESPnet's class, our search.

from espnet_plugin.inference.speech2text import Speech2Text
recognise = Speech2Text("exp/tag/full_sum/config.yaml", "exp/tag/full_sum/valid.loss.ave.pth")
text, tokens, token_ids, hypothesis = recognise(speech)[0]
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from espnet2.bin.asr_inference import Speech2Text as ESPnetSpeech2Text

from espnet_plugin.corpora.strict_parser import StrictParser
from espnet_plugin.data.lm_spec import FILE_OPTIONS
from espnet_plugin.inference.batch_job import encode, load_model
from espnet_plugin.inference.search_options import add_search_arguments, check_search_options
from espnet_plugin.inference.searchers import Searcher, make_searcher
from espnet_plugin.inference.text_output import make_detokenizer
from espnet_plugin.packages.imports import import_modules
from espnet_plugin.packages.loading import pretrained_arguments
from espnet_plugin.packages.package import MODEL
from espnet_plugin.packages.weights import check_names, read_weights
from espnet_plugin.search import Hypothesis
from espnet_plugin.search.align.word_hmm import WordHmm, read_word_hmm

# One utterance's N-best list, as ESPnet's Speech2Text returns it
Results = list[tuple[str, list[str], list[int], Hypothesis]]
Speech = torch.Tensor | np.ndarray


class Speech2Text(ESPnetSpeech2Text):
    """A trained model as a function from speech to text.

    Args:
        asr_train_config: config.yaml of the training.
        asr_model_file: model parameters.
        device: "cpu" or "cuda".
        boundary_file: where words begin and end in the sound, for those who ask for times.
        options: those of `espnet-progressive decode` by keyword: search, beam_size, nbest,
            ilm_scale, lexicon, lm=["word:3gram.arpa:0.8"], lm_train_config and lm_file, ...

    Attributes:
        boundaries: what `boundary_file` holds, or None.

    Raises:
        ValueError: an unknown option, a missing file, or a model that is not ours.
    """

    def __init__(
        self,
        asr_train_config: Path | str,
        asr_model_file: Path | str,
        device: str = "cpu",
        boundary_file: Path | str | None = None,
        **options: Any,
    ) -> None:
        args = search_options(options)
        args.train_config, args.model_file = Path(asr_train_config), Path(asr_model_file)
        args.ngpu = int(device.startswith("cuda"))
        self.asr_model, self.asr_train_args = load_model(args)
        self.device = device
        self.boundaries: WordHmm | None = None
        if boundary_file is not None:
            self.boundaries = read_word_hmm(Path(boundary_file))
        self.search = self._make_search(args)
        self.to_text = make_detokenizer(self.asr_train_args)

    def _make_search(self, args: argparse.Namespace) -> Searcher:
        return make_searcher(args, self.asr_model, self.asr_train_args)

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
        text = " ".join(found.words) if found.words else self.to_text(tokens)
        return text, tokens, list(found.tokens), found

    @classmethod
    def from_pretrained(cls, model_tag: str | None = None, **kwargs: Any) -> Self:
        """A model with its language models, lexicon and tuned scales.

        Args:
            model_tag: a packed zip file, its folder or address, a Hub id (`owner/name@revision`),
                the folder of an experiment or of a train stage (`packages.sources`).
            kwargs: as of the class; they win over the package's. `imports`: modules of other
                packages to import before, which a package that needs them does not do by itself.

        Raises:
            ValueError: nothing is there, or it is damaged, incomplete or unsafe.
        """
        import_modules(kwargs.pop("imports", ()), "imports")
        if model_tag is None:
            return cls(**kwargs)
        given = {**pretrained_arguments(model_tag), **kwargs}
        recognise = cls(**given)
        # ESPnet loads what there is and leaves the rest at random values.
        path = Path(given[MODEL])
        check_names(path, read_weights(path), recognise.asr_model.state_dict())
        return recognise


def search_options(given: dict[str, Any]) -> argparse.Namespace:
    """The search options of `decode`, with some given by keyword.

    Raises:
        ValueError: naming the options that do not exist; or see `check_search_options`.
    """
    parser = StrictParser()
    add_search_arguments(parser)
    args = parser.parse_args([])
    unknown = sorted(set(given) - set(vars(args)))
    if unknown:
        raise ValueError(f"unknown options {unknown}; there are {sorted(vars(args))}")
    for name, value in given.items():
        is_path = name in FILE_OPTIONS and value is not None
        setattr(args, name, Path(value) if is_path else value)
    check_search_options(args)
    return args
