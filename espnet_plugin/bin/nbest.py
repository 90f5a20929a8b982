"""Makes N-best lists of the training data for the mbr stage (method.md, stage 3)."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

import torch


def get_parser() -> argparse.ArgumentParser:
    """Options of the job."""
    from espnet_plugin.tasks.batch_job import make_parser
    from espnet_plugin.tasks.search_options import add_search_arguments

    parser = make_parser(__doc__ or "", ("train_config", "model_file"))
    add_search_arguments(parser, lm_scale=0.4)
    parser.set_defaults(nbest=4)
    return parser


@torch.no_grad()
def lm_score(scorers: Sequence[tuple[Any, float]], tokens: Sequence[int]) -> float:
    """Scaled language-model log-score of a whole label sequence (a forced-in reference)."""
    total = 0.0
    for scorer, scale in scorers:
        state = scorer.start(1)
        for token in tokens:
            log_probs, state = scorer.score(state)  # [1, V]
            total += scale * float(log_probs[0, token])
            state = scorer.advance(state, torch.tensor([token], device=log_probs.device))
        total += scale * float(scorer.final(state)[0])
    return total


def write_nbest(args: argparse.Namespace) -> None:
    """Writes `nbest` (text_int), `nbest_lm` and `nbest_risk` (text_float), and `skipped`."""
    from espnet_plugin.models.nbest_data import pack_nbest
    from espnet_plugin.search.nbest import make_nbest
    from espnet_plugin.tasks.batch_job import (
        ResumableTables,
        encode,
        in_batches,
        iterate_batches,
        load_model,
        read_keys,
    )
    from espnet_plugin.tasks.search_options import build_scorers, search_batch

    model, train_args = load_model(args)
    scorers = build_scorers(args, model)
    batches = in_batches(read_keys(args.key_file), args.batch_size)
    names = ("nbest", "nbest_lm", "nbest_risk")
    tables = ResumableTables(args.output_dir, names, batches)
    size = args.nbest
    # One more than asked for, so that a list stays full where the reference is already in it.
    args.nbest = size + 1
    for keys, batch in iterate_batches(args, train_args, batches, tables.finished):
        frames, lengths = encode(model, batch)
        found = search_batch(args, model, scorers, frames, lengths)
        for b, utt in enumerate(keys):
            labels = int(batch["text_lengths"][b])
            if model.topology == "monotonic" and labels > int(lengths[b]):
                tables.skip(utt, f"{labels} labels do not fit {int(lengths[b])} encoder frames")
                continue
            reference = batch["text"][b, :labels].tolist()
            entries = make_nbest(found[b], reference, size)
            scores = [lm_score(scorers, entry.tokens) for entry in entries]
            tables.write(
                utt,
                " ".join(map(str, pack_nbest([list(entry.tokens) for entry in entries]))),
                " ".join(f"{score:.6f}" for score in scores),
                " ".join(str(entry.risk) for entry in entries),
            )
        tables.flush()
    tables.close()


@torch.no_grad()
def main(cmd: Sequence[str] | None = None) -> None:
    """Command line; see the module's docstring."""
    from espnet_plugin.tasks.batch_job import start_logging

    args = get_parser().parse_args(cmd)
    start_logging(args)
    write_nbest(args)


if __name__ == "__main__":
    main()
