"""Makes N-best lists of the training data for the mbr stage (method.md, stage 3).

The paper's: `--search lexicon --lexicon FILE --lm word:4gram.arpa:0.4`, no internal-LM subtraction.
The reference is forced in where it is missing. Each entry carries its scaled language-model score,
the sum over all models, and its risk.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from espnet_plugin.pipeline.launch.commands import NBEST_FILES

if TYPE_CHECKING:
    from espnet_plugin.search.nbest import NbestEntry

from espnet_plugin.corpora.text_lines import fields


def get_parser() -> argparse.ArgumentParser:
    """Options of the job."""
    from espnet_plugin.inference.batch_job import make_parser
    from espnet_plugin.inference.search_options import add_search_arguments

    parser = make_parser(__doc__ or "", ("train_config", "model_file"))
    add_search_arguments(parser, searches=("beam", "lexicon"))
    parser.set_defaults(nbest=4)
    add = parser.add_argument_group("lists").add_argument
    add(
        "--list_size",
        type=int,
        help="hypotheses taken from the search, of which the --nbest best with distinct labels are "
        "kept; default: one more than --nbest, which homophones may leave short",
    )
    add(
        "--riskless",
        nargs="*",
        default=[],
        metavar="LABEL",
        help="labels, such as those of noises, that the risk does not count",
    )
    add("--max_frames", type=int, help="longer utterances get no list (encoder frames)")
    add("--max_labels", type=int, help="utterances with more labels get no list")
    return parser


class ListScores:
    """Scaled language-model log-scores of whole hypotheses.

    Args:
        args: options of the job.
        token_list: names of the model's labels.
        device: of the model.
    """

    def __init__(self, args: argparse.Namespace, token_list: Sequence[str], device: Any) -> None:
        from espnet_plugin.inference.language_models import sentence_scorer
        from espnet_plugin.inference.searchers import models_in_search

        specs = models_in_search(args)
        self._tokens = list(token_list)
        self._scales = [float(spec.scale or 0.0) for spec in specs]
        self._models = [sentence_scorer(spec, token_list, device) for spec in specs]

    def of(self, entry: Any, words: Sequence[str]) -> float:
        """Of an N-best entry; ``words`` are the reference's, for one that was forced in."""
        if entry.hypothesis is not None:
            scores = entry.hypothesis.lm_scores
        else:
            sentence = (words, [self._tokens[token] for token in entry.tokens])
            scores = [model([sentence])[0] for model in self._models]
        from espnet_plugin.search.scaling import scaled_sum

        return scaled_sum(self._scales, scores)


def reference_words(args: argparse.Namespace, numbered: bool) -> dict[str, list[str]]:
    """The transcripts as they were written: words cannot always be read off the labels.

    Args:
        numbered: words may carry the number of the pronunciation that an alignment chose.
    """
    from espnet_plugin.data.kaldi_files import read_table
    from espnet_plugin.data.lexicon import split_variant

    paths = [path for path, name, _ in args.data_path_and_name_and_type if name == "text"]
    if not paths:
        raise ValueError("N-best lists need the text: --data_path_and_name_and_type F,text,text")
    table = read_table(Path(paths[0]))
    words = {key: fields(text) for key, text in table.items()}
    if not numbered:
        return words
    return {key: [split_variant(word)[0] for word in row] for key, row in words.items()}


def label_numbers(names: Sequence[str], token_list: Sequence[str]) -> frozenset[int]:
    """Numbers of labels.

    Raises:
        ValueError: naming those that the model does not have.
    """
    unknown = sorted(set(names) - set(token_list))
    if unknown:
        raise ValueError(f"--riskless {' '.join(unknown)}: no label of the model")
    return frozenset(list(token_list).index(name) for name in names)


def over_limits(args: argparse.Namespace, frames: int, labels: int) -> str | None:
    """Why an utterance gets no list, and the mbr stage does not see it; None if it does."""
    if args.max_frames is not None and frames > args.max_frames:
        return f"{frames} encoder frames are more than --max_frames {args.max_frames}"
    if args.max_labels is not None and labels > args.max_labels:
        return f"{labels} labels are more than --max_labels {args.max_labels}"
    return None


def admitted(
    args: argparse.Namespace,
    model: Any,
    keys: Sequence[str],
    frames: Sequence[int],
    labels: Sequence[int],
    tables: Any,
) -> list[int]:
    """Rows of a batch that get a list; the others are written as skipped, with the reason."""
    rows = []
    for row, (utt, count, size) in enumerate(zip(keys, frames, labels, strict=True)):
        reason = over_limits(args, count, size)
        if reason is None and model.topology == "monotonic" and size > count:
            reason = f"{size} labels do not fit {count} encoder frames"
        if reason is None:
            rows.append(row)
        else:
            tables.skip(utt, reason)
    return rows


def encode_admitted(
    args: argparse.Namespace, model: Any, keys: Sequence[str], batch: dict[str, Any], tables: Any
) -> tuple[list[int], Any, Any]:
    """Rows that get a list, and their encoder output; no other goes through the encoder."""
    feats, lengths = model.features(batch["speech"], batch["speech_lengths"])
    labels = batch["text_lengths"].tolist()
    try:
        sub = model.subsampling()
    except ValueError:  # only this encoder itself tells how many frames it makes
        output = model.encode_features(feats, lengths)
        rows = admitted(args, model, keys, output.lengths.tolist(), labels, tables)
        return rows, output.frames[rows], output.lengths[rows]
    frames = [sub.encoder_frames(length) for length in lengths.tolist()]
    rows = admitted(args, model, keys, frames, labels, tables)
    if not rows:
        return rows, None, None
    lengths = lengths[rows]
    output = model.encode_features(feats[rows, : int(lengths.max())], lengths)
    return rows, output.frames, output.lengths


def forced_scores(
    model: Any, frames: Any, lengths: Any, lists: Sequence[Sequence[NbestEntry]]
) -> list[float | None]:
    """log P(a|x) of the references that the search did not find; None where it did."""
    import torch

    from espnet_plugin.losses import fused_full_sum_loss

    forced = [next((e for e in entries if e.hypothesis is None), None) for entries in lists]
    rows = [row for row, entry in enumerate(forced) if entry is not None]
    scores: list[float | None] = [None] * len(lists)
    if not rows:
        return scores
    sizes = torch.tensor([len(entry.tokens) for entry in forced if entry is not None])
    targets = torch.zeros(len(rows), max(1, int(sizes.max())), dtype=torch.long)
    for target, row in zip(targets, rows, strict=True):
        entry = forced[row]
        assert entry is not None
        target[: len(entry.tokens)] = torch.tensor(entry.tokens, dtype=torch.long)
    targets = targets.to(frames.device)
    losses = fused_full_sum_loss(
        frames[rows],
        model.prediction(targets),
        model.joint_network,
        targets,
        lengths[rows],
        sizes.to(frames.device),
        blank=model.blank_id,
        topology=model.topology,
        reduction="none",
        infeasible="inf",
    )
    for row, loss in zip(rows, losses.tolist(), strict=True):
        scores[row] = -loss
    return scores


def write_nbest(args: argparse.Namespace) -> None:
    """Writes the tables of `NBEST_FILES`, and `skipped`."""
    from espnet_plugin.inference.batch_job import ResumableTables, load_model, run_batches
    from espnet_plugin.inference.searchers import make_searcher
    from espnet_plugin.models.nbest_data import pack_nbest
    from espnet_plugin.search.nbest import make_nbest, rank_of

    if args.ilm_scale:
        logging.warning("ilm_scale %g: the paper's N-best lists are made without", args.ilm_scale)
    model, train_args = load_model(args)
    # One more than asked for, so that a list stays full where the reference is already in it.
    search = make_searcher(args, model, train_args, max(args.nbest + 1, args.list_size or 0))
    riskless = label_numbers(args.riskless, model.token_list)
    language = ListScores(args, model.token_list, next(model.parameters()).device)
    words = reference_words(args, getattr(train_args, "preprocessor", None) == "lexicon")

    def process(keys: list[str], batch: dict[str, Any], tables: ResumableTables) -> None:
        rows, frames, lengths = encode_admitted(args, model, keys, batch, tables)
        if not rows:
            return
        found = search(frames, lengths)
        labels = batch["text_lengths"].tolist()
        references = [batch["text"][b, : labels[b]].tolist() for b in rows]
        lists = [
            make_nbest(hypotheses, reference, args.nbest, riskless)
            for hypotheses, reference in zip(found, references, strict=True)
        ]
        forced = forced_scores(model, frames, lengths, lists)
        for b, hypotheses, reference, entries, score in zip(
            rows, found, references, lists, forced, strict=True
        ):
            utt = keys[b]
            am = [e.hypothesis.am_score if e.hypothesis else score for e in entries]
            tables.write(
                utt,
                " ".join(map(str, pack_nbest([list(entry.tokens) for entry in entries]))),
                " ".join(f"{language.of(entry, words[utt]):.6f}" for entry in entries),
                " ".join(str(entry.risk) for entry in entries),
                " ".join(f"{value:.6f}" for value in am),
                rank_of(hypotheses, reference),
            )

    run_batches(args, train_args, NBEST_FILES, process)


def main(cmd: Sequence[str] | None = None) -> int:
    """Run the command; returns 0, or 2 after a user error."""
    from espnet_plugin.inference.batch_job import run_job

    return run_job(get_parser(), write_nbest, cmd)


if __name__ == "__main__":
    sys.exit(main())
