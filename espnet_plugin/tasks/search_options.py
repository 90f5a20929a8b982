"""Options of the search, shared by `nbest` and `decode`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from espnet_plugin.models.progressive import ProgressiveTransducerModel
from espnet_plugin.search import Hypothesis
from espnet_plugin.search.beam import beam_search


def add_search_arguments(parser: argparse.ArgumentParser, lm_scale: float) -> None:
    """`--beam_size`, pruning, internal and external language models."""
    parser.add_argument("--beam_size", type=int, default=8)
    parser.add_argument("--nbest", type=int, default=1)
    parser.add_argument("--max_symbols", type=int, default=5, help="labels per frame (rnnt)")
    parser.add_argument("--score_beam", type=float, default=None, help="nats below the best")
    parser.add_argument("--recombination", choices=["history", "context"], default="history")
    parser.add_argument("--blank_penalty", type=float, default=0.0)
    parser.add_argument("--ilm_scale", type=float, default=0.0, help="internal LM subtraction")
    parser.add_argument("--ngram_file", type=Path, help="ARPA file over the model's tokens")
    parser.add_argument("--lm_scale", type=float, default=lm_scale, help="of --ngram_file")


def build_scorers(
    args: argparse.Namespace, model: ProgressiveTransducerModel
) -> list[tuple[Any, float]]:
    """The external language models with their scales."""
    if args.ngram_file is None or args.lm_scale == 0:
        return []
    from espnet_plugin.search import NgramScorer, read_arpa

    device = next(model.parameters()).device
    scorer = NgramScorer(read_arpa(args.ngram_file), model.token_list, device=device)
    return [(scorer, args.lm_scale)]


@torch.no_grad()
def search_batch(
    args: argparse.Namespace,
    model: ProgressiveTransducerModel,
    scorers: Sequence[tuple[Any, float]],
    frames: torch.Tensor,
    lengths: torch.Tensor,
) -> list[list[Hypothesis]]:
    """N-best hypotheses of a batch's encoder output [B, T, D]."""
    return beam_search(
        frames,
        lengths,
        model.prediction,
        model.joint_network,
        beam=args.beam_size,
        nbest=args.nbest,
        topology=model.topology,
        scorers=scorers,
        ilm_scale=args.ilm_scale or None,
        recombination=args.recombination,
        score_beam=args.score_beam,
        max_symbols=args.max_symbols,
        blank_penalty=args.blank_penalty,
        blank=model.blank_id,
    )
