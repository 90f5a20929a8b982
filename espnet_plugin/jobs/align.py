"""Aligns utterances: one label or blank per encoder frame.

The encoder's posteriors, and a transducer of the monotonic topology, put one label on a frame at
most; a transducer of the rnnt topology may put several, written as `search.align.entries` says.
"""

from __future__ import annotations

import argparse
import logging
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from espnet_plugin.corpora.atomic import write_atomically
from espnet_plugin.corpora.text_lines import read_lines
from espnet_plugin.data.kaldi_files import read_tokens
from espnet_plugin.data.lexicon import numbered_word
from espnet_plugin.pipeline.steps.label_prior import PRIOR_SUMS, write_prior


def get_parser() -> argparse.ArgumentParser:
    """Options of the job."""
    from espnet2.utils.types import str2bool

    from espnet_plugin.inference.batch_job import make_parser

    parser = make_parser(__doc__ or "", ("train_config", "model_file"))
    parser.add_argument(
        "--source",
        choices=["encoder", "transducer"],
        default="encoder",
        help="encoder: posteriors of the encoder's output layer; transducer: the joint network",
    )
    parser.add_argument(
        "--prior_scale",
        type=float,
        default=0.3,
        help="posteriors are divided by the label prior to this power (source encoder)",
    )
    parser.add_argument("--prior_file", type=Path, help="log prior, one number per token")
    parser.add_argument(
        "--prior_only", type=str2bool, default=False, help="estimate --prior_file and stop"
    )
    parser.add_argument(
        "--prior_part",
        type=str2bool,
        default=False,
        help="of a prior that several processes estimate: leave sums in the output folder instead",
    )
    parser.add_argument(
        "--variants",
        type=str2bool,
        default=False,
        help="choose among the pronunciation variants of each word (source encoder); `text` gets "
        "the transcripts with numbers of the chosen ones, word(2) for the second",
    )
    return parser


def estimate_prior(args: argparse.Namespace) -> None:
    """Writes the log of the mean posterior over the utterances of the key file."""
    from espnet_plugin.inference.batch_job import (
        encode,
        in_batches,
        iterate_batches,
        load_model,
        read_keys,
    )
    from espnet_plugin.search import LabelPrior

    part = args.output_dir / PRIOR_SUMS if args.prior_part else None
    if part is None and args.prior_file is None:
        raise ValueError("--prior_only true needs --prior_file, the file to write")
    if part is not None and part.exists():
        logging.info("%s: done before", part)
        return
    model, train_args = load_model(args)
    prior = LabelPrior(model.vocab_size)
    batches = in_batches(read_keys(args.key_file), args.batch_size)
    for _, batch in iterate_batches(args, train_args, batches):
        frames, lengths = encode(model, batch)
        prior.add(model.encoder_logits(frames).log_softmax(-1), lengths)
    if part is not None:
        sums, count = prior.sums()
        write_atomically(part, "".join(f"{value!r}\n" for value in (count, *sums)))
        return
    write_prior(args.prior_file, prior.log_prior().tolist())
    logging.info("wrote the label prior to %s", args.prior_file)


def read_prior(args: argparse.Namespace, vocab_size: int) -> torch.Tensor | None:
    """Log prior [V], or None when it is not to be used.

    Raises:
        ValueError: for a missing file or one of another vocabulary.
    """
    if args.source != "encoder" or args.prior_scale == 0:
        return None
    if args.prior_file is None:
        raise ValueError(
            f"--prior_scale {args.prior_scale} needs --prior_file (made by --prior_only true)"
        )
    values = [float(line) for line in read_lines(args.prior_file)]
    if len(values) != vocab_size:
        raise ValueError(f"{args.prior_file} has {len(values)} numbers for {vocab_size} tokens")
    return torch.tensor(values)


def align_batch(
    model: Any, batch: dict[str, Any], args: argparse.Namespace, prior: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Paths, score [B] and frames [B] of a batch; the score is -inf if impossible.

    A path is [B, T]; of a transducer of the rnnt topology it is [B, T + S], a symbol per step.
    """
    from espnet_plugin.inference.batch_job import encode
    from espnet_plugin.search import forced_align
    from espnet_plugin.search.align.realign import forced_align_transducer

    frames, lengths = encode(model, batch)
    targets, target_lengths = batch["text"], batch["text_lengths"]
    if args.source == "transducer":
        alignment, score = forced_align_transducer(
            frames,
            model.prediction,
            model.joint_network,
            targets.clamp(min=0),
            lengths,
            target_lengths,
            topology=model.topology,
            blank=model.blank_id,
            infeasible="skip",
        )
        return alignment, score, lengths
    log_probs = model.encoder_logits(frames).log_softmax(-1)  # [B, T, V]
    if args.variants:
        return align_variants(log_probs, batch, lengths, args, prior)
    alignment, score = forced_align(
        log_probs,
        targets,
        lengths,
        target_lengths,
        blank=model.blank_id,
        prior=prior,
        prior_scale=args.prior_scale,
        infeasible="skip",
    )
    return alignment, path_score(log_probs, alignment, lengths, score), lengths


def align_variants(
    log_probs: torch.Tensor,
    batch: dict[str, Any],
    lengths: torch.Tensor,
    args: argparse.Namespace,
    prior: torch.Tensor | None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """As `align_batch`; leaves the number of each word's variant in ``batch["chosen"]``."""
    from espnet_plugin.lattice.label_graph import graph_best_path
    from espnet_plugin.models.variants import batch_graph

    graph = batch_graph(batch["variants"], batch["variants_lengths"])
    scores = log_probs if prior is None else log_probs - args.prior_scale * prior
    entered, score = graph_best_path(scores[..., 0], graph.arcs(scores), lengths, graph)
    node = entered.clamp(min=0)
    if graph.labels.shape[1] == 0:  # no words at all
        node = entered.new_zeros(entered.shape)
        batch["chosen"] = [[] for _ in lengths]
        return node, path_score(log_probs, node, lengths, score), lengths
    alignment = graph.labels.gather(1, node).masked_fill(entered < 0, 0)  # [B, T]
    batch["chosen"] = []
    for b, path in enumerate(entered.tolist()):
        taken = {int(graph.word[b, n]): int(graph.variant[b, n]) for n in path if n >= 0}
        batch["chosen"].append([taken[word] for word in sorted(taken)])
    return alignment, path_score(log_probs, alignment, lengths, score), lengths


def path_score(
    log_probs: torch.Tensor, alignment: torch.Tensor, lengths: torch.Tensor, score: torch.Tensor
) -> torch.Tensor:
    """log posterior of the path [B], without the prior that chose it; -inf stays -inf.

    Divided by the prior, a score is no probability: a good alignment has a positive one, and no
    limit on it would mean the same for two label sets.
    """
    valid = torch.arange(log_probs.size(1), device=log_probs.device) < lengths[:, None]
    picked = log_probs.gather(2, alignment[:, : log_probs.size(1), None]).squeeze(2)  # [B, T]
    return picked.masked_fill(~valid, 0.0).sum(1).masked_fill(torch.isinf(score), -torch.inf)


def align(args: argparse.Namespace) -> None:
    """Writes `alignment` (text_int), `score` (log posterior per frame) and `skipped`."""
    from espnet_plugin.inference.batch_job import (
        ResumableTables,
        integers,
        load_model,
        run_batches,
    )
    from espnet_plugin.search.align.entries import path_entries

    model, train_args = load_model(args)
    prior = read_prior(args, model.vocab_size)
    if prior is not None:
        prior = prior.to(next(model.parameters()).device)

    steps = args.source == "transducer" and model.topology == "rnnt"
    words = {}
    if args.variants:
        if args.source != "encoder":
            raise ValueError("--variants true needs --source encoder")
        train_args.loss_conf = {**(train_args.loss_conf or {}), "variants": True}
        words = transcripts(args)

    def process(keys: list[str], batch: dict[str, Any], tables: ResumableTables) -> None:
        alignment, score, lengths = align_batch(model, batch, args, prior)
        for b, utt in enumerate(keys):
            length, labels = int(lengths[b]), int(batch["text_lengths"][b])
            if not math.isfinite(float(score[b])):
                tables.skip(utt, f"{labels} labels do not fit {length} encoder frames")
                continue
            per_frame = float(score[b]) / max(length, 1)
            if steps:
                entries = path_entries(alignment[b, : length + labels].tolist())
                row = [" ".join(map(str, entries)), f"{per_frame:.6f}"]
            else:
                row = [integers(alignment[b], length), f"{per_frame:.6f}"]
            if args.variants:
                pairs = zip(words[utt], batch["chosen"][b], strict=True)
                row.append(" ".join(numbered_word(word, variant) for word, variant in pairs))
            tables.write(utt, *row)

    names = ("alignment", "score", "text") if args.variants else ("alignment", "score")
    run_batches(args, train_args, names, process)


def transcripts(args: argparse.Namespace) -> dict[str, list[str]]:
    """Words of every utterance, as the data has them."""
    path = next(path for path, name, _ in args.data_path_and_name_and_type if name == "text")
    return read_tokens(Path(path))


def run(args: argparse.Namespace) -> None:
    """Estimate the prior, or align."""
    if args.prior_only:
        estimate_prior(args)
    else:
        align(args)


def main(cmd: Sequence[str] | None = None) -> int:
    """Run the command; returns 0, or 2 after a user error."""
    from espnet_plugin.inference.batch_job import run_job

    return run_job(get_parser(), run, cmd)


if __name__ == "__main__":
    sys.exit(main())
