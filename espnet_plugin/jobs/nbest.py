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
from typing import Any

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


def write_nbest(args: argparse.Namespace) -> None:
    """Writes `nbest` (text_int), `nbest_lm` and `nbest_risk` (text_float), and `skipped`."""
    from espnet_plugin.inference.batch_job import ResumableTables, encode, load_model, run_batches
    from espnet_plugin.inference.searchers import make_searcher
    from espnet_plugin.models.nbest_data import pack_nbest
    from espnet_plugin.search.nbest import make_nbest

    if args.ilm_scale:
        logging.warning("ilm_scale %g: the paper's N-best lists are made without", args.ilm_scale)
    model, train_args = load_model(args)
    # One more than asked for, so that a list stays full where the reference is already in it.
    search = make_searcher(args, model, train_args, max(args.nbest + 1, args.list_size or 0))
    riskless = label_numbers(args.riskless, model.token_list)
    language = ListScores(args, model.token_list, next(model.parameters()).device)
    words = reference_words(args, getattr(train_args, "preprocessor", None) == "lexicon")

    def process(keys: list[str], batch: dict[str, Any], tables: ResumableTables) -> None:
        frames, lengths = encode(model, batch)
        found = search(frames, lengths)
        for b, utt in enumerate(keys):
            labels = int(batch["text_lengths"][b])
            if too_long := over_limits(args, int(lengths[b]), labels):
                tables.skip(utt, too_long)
                continue
            if model.topology == "monotonic" and labels > int(lengths[b]):
                tables.skip(utt, f"{labels} labels do not fit {int(lengths[b])} encoder frames")
                continue
            reference = batch["text"][b, :labels].tolist()
            entries = make_nbest(found[b], reference, args.nbest, riskless)
            tables.write(
                utt,
                " ".join(map(str, pack_nbest([list(entry.tokens) for entry in entries]))),
                " ".join(f"{language.of(entry, words[utt]):.6f}" for entry in entries),
                " ".join(str(entry.risk) for entry in entries),
            )

    run_batches(args, train_args, ("nbest", "nbest_lm", "nbest_risk"), process)


def main(cmd: Sequence[str] | None = None) -> int:
    """Run the command; returns 0, or 2 after a user error."""
    from espnet_plugin.inference.batch_job import run_job

    return run_job(get_parser(), write_nbest, cmd)


if __name__ == "__main__":
    sys.exit(main())
