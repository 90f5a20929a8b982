"""Language models as the options name them, loaded for a search or for rescoring."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from espnet_plugin.data.lexicon import Lexicon, mark_word_end, read_lexicon
from espnet_plugin.data.lm_spec import LARGE_ARPA, LmSpec
from espnet_plugin.search.beam.scorers import LabelScorer
from espnet_plugin.search.lm.kenlm_model import BINARY_SUFFIXES, KenlmModel
from espnet_plugin.search.lm.lm_adapter import LmAdapter
from espnet_plugin.search.lm.ngram import NgramScorer, WordModel, read_arpa
from espnet_plugin.search.lm.word_end import WordEndScorer
from espnet_plugin.search.word_output import STYLES
from espnet_plugin.tasks.model_fit import build_fitting_model

# Sentences, each as (words, tokens) -> their log-probabilities, end of sentence included.
SentenceScorer = Callable[[Sequence[tuple[Sequence[str], Sequence[str]]]], list[float]]


def label_style(train_args: argparse.Namespace) -> str | None:
    """How words are made of the model's labels: char, bpe, phn; None where it is not known."""
    if getattr(train_args, "preprocessor", None) == "lexicon":
        return "phn"
    return train_args.token_type if train_args.token_type in STYLES else None


def read_word_model(path: Path, device: Any = None) -> WordModel:
    """N-grams over words: from ARPA by our own reader, binary or large files by KenLM.

    Raises:
        ValueError: a missing or damaged file, or KenLM is needed and not installed.
    """
    if path.suffix in BINARY_SUFFIXES:
        return KenlmModel(path, device)
    if not path.is_file():
        raise ValueError(f"{path}: no such language model")
    if path.stat().st_size >= LARGE_ARPA:
        return KenlmModel(path, device)
    return read_arpa(path, device)


def load_espnet_lm(spec: LmSpec, device: Any) -> tuple[Any, argparse.Namespace]:
    """A model of ESPnet's LM task in evaluation mode, and its training arguments.

    Raises:
        ValueError: a file is missing or damaged, or the parameters are another model's.
    """
    for path in (spec.path, spec.config_path):
        if not path.is_file():
            raise ValueError(f"language model {spec}: {path}: no such file")
    from espnet2.tasks.lm import LMTask

    model, train_args = build_fitting_model(LMTask, spec.config_path, spec.path, str(device))
    return model.eval(), train_args


def require_vocabulary(spec: LmSpec, theirs: Sequence[str], ours: Sequence[str]) -> None:
    """Refuse a language model over another token list.

    Raises:
        ValueError: naming the first difference.
    """
    if list(theirs) == list(ours):
        return
    pairs = zip(theirs, ours, strict=False)
    place = next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(theirs), len(ours)))
    a, b = ([*names, "(end)"][place] for names in (list(theirs), list(ours)))
    raise ValueError(
        f"language model {spec} was made for another vocabulary: {len(theirs)} tokens, the model "
        f"has {len(ours)}; token {place} is {a!r} there and {b!r} here. Train it on the model's "
        "token list, or rescore with it as espnet-text"
    )


def label_scorer(
    spec: LmSpec, token_list: Sequence[str], train_args: argparse.Namespace, device: Any
) -> LabelScorer:
    """A language model for label-level search.

    Raises:
        ValueError: a missing or damaged file, or a model of another vocabulary.
    """
    if spec.kind == "ngram":
        if not spec.path.is_file():
            raise ValueError(f"{spec.path}: no such language model")
        return NgramScorer(read_arpa(spec.path), token_list, device=device)
    if spec.kind == "espnet":
        model, lm_args = load_espnet_lm(spec, device)
        require_vocabulary(spec, lm_args.token_list, token_list)
        return LmAdapter(model.lm, len(token_list), device=device)
    style = label_style(train_args)
    if style is None:
        raise ValueError(
            f"language model {spec}: where words end is not known for token_type "
            f"{train_args.token_type}; use search lexicon"
        )
    pronunciations = None
    if style == "phn":
        pronunciations = words_of_labels(read_lexicon(_lexicon_of(train_args)))
    return WordEndScorer(
        read_word_model(spec.path), token_list, style, pronunciations=pronunciations, device=device
    )


def words_of_labels(lexicon: Lexicon) -> dict[tuple[str, ...], list[str]]:
    """Label sequence with end-of-word mark -> all words that are pronounced so."""
    words: dict[tuple[str, ...], list[str]] = {}
    for word, variants in lexicon.pronunciations.items():
        for variant in variants:
            words.setdefault(tuple(mark_word_end(variant)), []).append(word)
    return words


def _lexicon_of(train_args: argparse.Namespace) -> Path:
    return Path(train_args.preprocessor_conf["lexicon"])


def sentence_scorer(spec: LmSpec, token_list: Sequence[str] | None, device: Any) -> SentenceScorer:
    """A language model over whole sentences, for rescoring.

    Args:
        token_list: the transducer's; None: not known (then `espnet` models are taken as they are).

    Raises:
        ValueError: a missing or damaged file, or a model of another vocabulary.
    """
    if spec.kind in ("word", "ngram"):
        number = 0 if spec.kind == "word" else 1
        model = read_word_model(spec.path)
        return lambda sentences: [model.sentence(sentence[number]) for sentence in sentences]
    neural, lm_args = load_espnet_lm(spec, device)
    own = list(lm_args.token_list)
    if spec.kind == "espnet":
        if token_list is not None:
            require_vocabulary(spec, own, token_list)
        index = {token: i for i, token in enumerate(own)}
        unknown = index.get("<unk>", 0)

        def by_tokens(sentences: Any) -> list[float]:
            ids = [[index.get(token, unknown) for token in tokens] for _, tokens in sentences]
            return neural_scores(neural, ids, device)

        return by_tokens
    from espnet2.tasks.lm import LMTask

    preprocess = LMTask.build_preprocess_fn(lm_args, False)

    def by_text(sentences: Any) -> list[float]:
        texts = [preprocess("", {"text": " ".join(words)})["text"] for words, _ in sentences]
        return neural_scores(neural, [text.tolist() for text in texts], device)

    return by_text


@torch.no_grad()
def neural_scores(model: Any, sentences: Sequence[Sequence[int]], device: Any) -> list[float]:
    """log p of token sequences, end of sentence included, under ESPnet's language-model class.

    Args:
        model: ESPnetLanguageModel.
        sentences: N sequences.
    """
    longest = max((len(sentence) for sentence in sentences), default=0)
    if not sentences:
        return []
    text = torch.zeros(len(sentences), max(longest, 1), dtype=torch.int64, device=device)
    for row, sentence in zip(text, sentences, strict=True):
        row[: len(sentence)] = torch.tensor(sentence, dtype=torch.int64, device=device)
    lengths = torch.tensor([len(sentence) for sentence in sentences], device=device)
    nll, _ = model.nll(text, lengths)  # [N, S + 1], 0 past the end
    return [-value for value in nll.double().sum(1).tolist()]
