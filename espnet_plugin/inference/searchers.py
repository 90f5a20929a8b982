"""What `decode --search` offers: greedy, beam, lexicon, and greedy on an aligner's output layer."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from espnet_plugin.data.lexicon import mark_word_end, read_lexicon, read_weights
from espnet_plugin.data.lm_spec import LmSpec, lm_specs, parse_lm
from espnet_plugin.inference.language_models import label_scorer, read_word_model
from espnet_plugin.inference.search_options import MANY_WORDS, SEARCHES, check_search_options
from espnet_plugin.models.progressive import ProgressiveTransducerModel
from espnet_plugin.search import Hypothesis
from espnet_plugin.search.beam.beam import BeamSearch
from espnet_plugin.search.beam.beam_options import BeamOptions
from espnet_plugin.search.lexicon.lexicon_search import LexiconOptions, LexiconSearch
from espnet_plugin.search.lexicon.prefix_tree import PrefixTree, lexicon_entries
from espnet_plugin.search.lexicon.word_lm import WordNgram
from espnet_plugin.search.lexicon.word_mixture import WordMixture
from espnet_plugin.search.lm.kenlm_model import KenlmModel
from espnet_plugin.search.lm.ngram import WordModel

__all__ = [
    "SEARCHES",
    "Searcher",
    "make_engine",
    "make_searcher",
    "models_in_search",
    "spell",
    "whole_utterances",
]

# Encoder output [B, T, D] and lengths [B] -> N-best lists
Searcher = Callable[[torch.Tensor, torch.Tensor], list[list[Hypothesis]]]
# An N-best list of the engine -> the same with the scores where they belong
Finish = Callable[[list[Hypothesis]], list[Hypothesis]]
SPACE = "<space>"


def make_searcher(
    args: argparse.Namespace,
    model: ProgressiveTransducerModel,
    train_args: argparse.Namespace,
    nbest: int | None = None,
) -> Searcher:
    """The search that the options ask for.

    A hypothesis' ``lm_scores`` come in the order of `models_in_search`, and its ``ilm_score`` is
    that of the internal language model, by whatever method it is estimated.

    Args:
        nbest: length of the lists; by default ``args.nbest``.

    Raises:
        ValueError: options that do not fit together or to the model; files of another vocabulary.
    """
    nbest = nbest or args.nbest
    if model.criterion.pretrains:
        raise ValueError(
            "this model was pretrained on speech alone and recognises nothing yet; take one of a "
            "later stage"
        )
    if model.criterion.searches_encoder:
        logging.info("an aligner: greedy search on the encoder's output layer, no language model")
        return _encoder(model)
    check_search_options(args)
    if args.search == "encoder":
        return _encoder(model)
    if args.search == "greedy":
        return _greedy(args, model)
    return whole_utterances(*make_engine(args, model, train_args), nbest)


def whole_utterances(engine: BeamSearch, finish: Finish, nbest: int) -> Searcher:
    """The search of all frames at once."""
    return lambda frames, lengths: [finish(f) for f in engine.search(frames, lengths, nbest)]


def make_engine(
    args: argparse.Namespace, model: ProgressiveTransducerModel, train_args: argparse.Namespace
) -> tuple[BeamSearch, Finish]:
    """Label-level or lexicon search, and what makes of its lists what `make_searcher` promises.

    Raises:
        ValueError: as `make_searcher`.
    """
    specs, source = models_in_search(args), None
    if args.ilm_method != "zero_encoder":
        source = parse_lm(args.ilm_lm).with_scale(-args.ilm_scale)
    make = _lexicon if args.search == "lexicon" else _beam
    engine, finish = make(args, model, train_args, [*specs, *([source] if source else [])])
    if source is None:
        return engine, finish
    return engine, lambda found: [_source_apart(h) for h in finish(found)]


def models_in_search(args: argparse.Namespace) -> list[LmSpec]:
    """The external language models; those of scale 0 too, so that their scores are reported."""
    return lm_specs(vars(args))


def _source_apart(found: Hypothesis) -> Hypothesis:
    """The last language model is the internal one's estimate."""
    return replace(found, ilm_score=found.lm_scores[-1], lm_scores=found.lm_scores[:-1])


def _beam_options(args: argparse.Namespace, model: ProgressiveTransducerModel) -> BeamOptions:
    return BeamOptions(
        beam=args.beam_size,
        topology=model.topology,
        ilm_scale=args.ilm_scale if args.ilm_method == "zero_encoder" else None,
        recombination=args.recombination,
        semiring=args.semiring,
        score_beam=args.score_beam,
        max_symbols=args.max_symbols,
        blank_penalty=args.blank_penalty,
        blank=model.blank_id,
        engine=args.search_engine,
    )


def _beam(
    args: argparse.Namespace,
    model: ProgressiveTransducerModel,
    train_args: argparse.Namespace,
    specs: Sequence[LmSpec],
) -> tuple[BeamSearch, Finish]:
    device = next(model.parameters()).device
    scorers = [
        (label_scorer(spec, model.token_list, train_args, device), float(spec.scale or 0.0))
        for spec in specs
    ]
    options = _beam_options(args, model)
    return BeamSearch(model.prediction, model.joint_network, options, scorers), list


def _greedy(args: argparse.Namespace, model: ProgressiveTransducerModel) -> Searcher:
    def search(frames: torch.Tensor, lengths: torch.Tensor) -> list[list[Hypothesis]]:
        options = {"max_symbols": args.max_symbols, "blank_penalty": args.blank_penalty}
        return [[found] for found in model.transducer_greedy(frames, lengths, **options)]

    return search


def _encoder(model: ProgressiveTransducerModel) -> Searcher:
    def search(frames: torch.Tensor, lengths: torch.Tensor) -> list[list[Hypothesis]]:
        found = model.encoder_greedy(frames, lengths)
        return [[Hypothesis(tuple(tokens), score, score)] for tokens, score in found]

    return search


def spell(
    train_args: argparse.Namespace, lexicon: Path, probabilities: bool = False
) -> dict[str, list[list[str]]]:
    """Label sequences of every word: its pronunciations, or its spelling in the model's units.

    Raises:
        ValueError: a broken lexicon, or units in which words cannot be spelled.
    """
    words = read_lexicon(lexicon, probabilities=probabilities)
    if getattr(train_args, "preprocessor", None) == "lexicon":
        return {
            word: [list(mark_word_end(variant)) for variant in variants]
            for word, variants in words.pronunciations.items()
        }
    if train_args.token_type == "char":
        labels = set(getattr(train_args, "token_list", None) or ())  # of which <noise> may be one
        return {w: [[w] if w in labels else list(w)] for w in words.pronunciations}
    if train_args.token_type == "bpe":
        from espnet2.text.build_tokenizer import build_tokenizer

        tokenizer = build_tokenizer("bpe", bpemodel=train_args.bpemodel)
        return {word: [list(tokenizer.text2tokens(word))] for word in words.pronunciations}
    raise ValueError(
        f"search lexicon does not know how to spell token_type {train_args.token_type}"
    )


def _weights(
    args: argparse.Namespace, train_args: argparse.Namespace
) -> dict[str, list[float]] | None:
    """Probabilities of pronunciations; a spelling has none."""
    pronounced = getattr(train_args, "preprocessor", None) == "lexicon"
    return read_weights(args.lexicon) if args.lexicon_probabilities and pronounced else None


def _lexicon(
    args: argparse.Namespace,
    model: ProgressiveTransducerModel,
    train_args: argparse.Namespace,
    specs: Sequence[LmSpec],
) -> tuple[LexiconSearch, Finish]:
    device = next(model.parameters()).device
    space = SPACE if train_args.token_type == "char" else None
    spelled = spell(train_args, args.lexicon, args.lexicon_probabilities)
    entries = lexicon_entries(spelled, model.token_list, _weights(args, train_args), space=space)
    tree = PrefixTree(entries, vocab_size=model.vocab_size, device=device)
    of_words = {
        number: read_word_model(spec.path, device)
        for number, spec in enumerate(specs)
        if spec.kind == "word"
    }
    scales = [float(spec.scale or 0.0) for spec in specs]
    parts = [(WordNgram(m, tree.words), scales[i]) for i, m in of_words.items()]
    scorers = [
        (label_scorer(spec, model.token_list, train_args, device), scale)
        for spec, scale in zip(specs, scales, strict=True)
        if spec.kind != "word"
    ]
    kenlm = any(isinstance(model, KenlmModel) for model in of_words.values())
    dear = kenlm or len(tree.words) > MANY_WORDS
    words = LexiconOptions(
        lm_scale=1.0,
        pronunciation_scale=args.pronunciation_scale,
        look_ahead=args.look_ahead or ("unigram" if dear else "ngram"),
        word_end_beam=args.word_end_beam,
    )
    engine = LexiconSearch(
        model.prediction,
        model.joint_network,
        tree,
        _beam_options(args, model),
        words,
        WordMixture(parts) if parts else None,
        scorers,
    )

    if not parts:
        return engine, list
    return engine, lambda found: [_unmixed(h, of_words, scales) for h in found]


def _unmixed(
    found: Hypothesis, models: dict[int, WordModel], scales: Sequence[float]
) -> Hypothesis:
    """Each model's own score in the place where the options name it; the mixture comes last."""
    *labels, mixture = found.lm_scores
    rest = iter(labels)
    alone = len(models) == 1 and scales[next(iter(models))] != 0
    scores = []
    for i in range(len(scales)):
        if i not in models:
            scores.append(next(rest))
        else:  # asking the model again costs time
            scores.append(mixture / scales[i] if alone else models[i].sentence(found.words))
    return replace(found, lm_scores=tuple(scores))
