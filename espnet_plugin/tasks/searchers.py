"""What `decode --search` offers: greedy, beam, lexicon, and greedy on an aligner's output layer."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable
from pathlib import Path

import torch

from espnet_plugin.data.lexicon import mark_word_end, read_lexicon
from espnet_plugin.models.progressive import ProgressiveTransducerModel
from espnet_plugin.search import Hypothesis, read_arpa
from espnet_plugin.search.beam_options import BeamOptions
from espnet_plugin.search.greedy import greedy_search
from espnet_plugin.search.lexicon_search import LexiconOptions, LexiconSearch
from espnet_plugin.search.prefix_tree import PrefixTree, lexicon_entries
from espnet_plugin.search.word_lm import WordNgram
from espnet_plugin.tasks.search_options import build_scorers, search_batch

# Encoder output [B, T, D] and lengths [B] -> N-best lists
Searcher = Callable[[torch.Tensor, torch.Tensor], list[list[Hypothesis]]]
SEARCHES = ("beam", "greedy", "lexicon", "encoder")
SPACE = "<space>"


def add_lexicon_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `--search lexicon`."""
    parser.add_argument("--lexicon", type=Path, help="words with pronunciations (search lexicon)")
    parser.add_argument("--word_lm", type=Path, help="ARPA file over words (search lexicon)")
    parser.add_argument("--word_lm_scale", type=float, default=0.8)
    parser.add_argument("--pronunciation_scale", type=float, default=1.0)
    parser.add_argument("--word_end_beam", type=float, default=None)


def make_searcher(
    args: argparse.Namespace,
    model: ProgressiveTransducerModel,
    train_args: argparse.Namespace,
) -> Searcher:
    """The search that the options ask for.

    Raises:
        ValueError: a lexicon search without lexicon, or one of another vocabulary.
    """
    if model.criterion.searches_encoder and args.search != "encoder":
        logging.info("an aligner: greedy search on the encoder's output layer")
        args.search = "encoder"
    if args.search == "beam":
        scorers = build_scorers(args, model)
        return lambda frames, lengths: search_batch(args, model, scorers, frames, lengths)
    if args.search == "lexicon":
        return _lexicon(args, model, train_args)
    return _encoder(model) if args.search == "encoder" else _greedy(args, model)


def _greedy(args: argparse.Namespace, model: ProgressiveTransducerModel) -> Searcher:
    def search(frames: torch.Tensor, lengths: torch.Tensor) -> list[list[Hypothesis]]:
        found = greedy_search(
            frames,
            lengths,
            model.prediction,
            model.joint_network,
            topology=model.topology,
            blank=model.blank_id,
            max_symbols=args.max_symbols,
            blank_penalty=args.blank_penalty,
        )
        return [[hypothesis] for hypothesis in found]

    return search


def _encoder(model: ProgressiveTransducerModel) -> Searcher:
    def search(frames: torch.Tensor, lengths: torch.Tensor) -> list[list[Hypothesis]]:
        found = model.encoder_greedy(frames, lengths)
        return [[Hypothesis(tuple(tokens), score, score)] for tokens, score in found]

    return search


def spell(train_args: argparse.Namespace, lexicon: Path) -> dict[str, list[list[str]]]:
    """Label sequences of every word: its pronunciations, or its spelling in the model's units."""
    words = read_lexicon(lexicon)
    if getattr(train_args, "preprocessor", None) == "lexicon":
        return {
            word: [list(mark_word_end(variant)) for variant in variants]
            for word, variants in words.pronunciations.items()
        }
    if train_args.token_type == "char":
        return {word: [list(word)] for word in words.pronunciations}
    if train_args.token_type == "bpe":
        from espnet2.text.build_tokenizer import build_tokenizer

        tokenizer = build_tokenizer("bpe", bpemodel=train_args.bpemodel)
        return {word: [list(tokenizer.text2tokens(word))] for word in words.pronunciations}
    raise ValueError(
        f"search lexicon does not know how to spell token_type {train_args.token_type}"
    )


def _lexicon(
    args: argparse.Namespace, model: ProgressiveTransducerModel, train_args: argparse.Namespace
) -> Searcher:
    if args.lexicon is None:
        raise ValueError("--search lexicon needs --lexicon FILE, the words to recognise")
    space = SPACE if train_args.token_type == "char" else None
    entries = lexicon_entries(spell(train_args, args.lexicon), model.token_list, space=space)
    tree = PrefixTree(entries, vocab_size=model.vocab_size)
    word_lm = None
    if args.word_lm is not None:
        word_lm = WordNgram(read_arpa(args.word_lm), tree.words)
    options = BeamOptions(
        beam=args.beam_size,
        topology=model.topology,
        ilm_scale=args.ilm_scale or None,
        recombination=args.recombination,
        score_beam=args.score_beam,
        max_symbols=args.max_symbols,
        blank_penalty=args.blank_penalty,
        blank=model.blank_id,
    )
    words = LexiconOptions(
        lm_scale=args.word_lm_scale,
        pronunciation_scale=args.pronunciation_scale,
        word_end_beam=args.word_end_beam,
    )
    engine = LexiconSearch(
        model.prediction,
        model.joint_network,
        tree,
        options,
        words,
        word_lm,
        build_scorers(args, model),
    )
    return lambda frames, lengths: engine.search(frames, lengths, args.nbest)
