"""Decodes utterances into ESPnet's layout: `1best_recog/{text,token,token_int,score}`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import torch


def get_parser() -> argparse.ArgumentParser:
    """Options of the job; `--config decode.yaml` as for ESPnet's asr_inference."""
    from espnet_plugin.tasks.batch_job import make_parser
    from espnet_plugin.tasks.search_options import add_search_arguments
    from espnet_plugin.tasks.searchers import SEARCHES, add_lexicon_arguments

    parser = make_parser(__doc__ or "", ("asr_train_config", "asr_model_file"))
    parser.add_argument(
        "--search",
        choices=SEARCHES,
        default="beam",
        help="encoder: greedy on the encoder's output layer; always used for an aligner, whose "
        "joint network is not trained",
    )
    add_search_arguments(parser, lm_scale=0.0)
    add_lexicon_arguments(parser)
    return parser


def decode(args: argparse.Namespace) -> None:
    """Writes N folders `Nbest_recog`; utterances the encoder cannot take are in `skipped`."""
    from espnet_plugin.tasks.batch_job import (
        ResumableTables,
        encode,
        in_batches,
        iterate_batches,
        load_model,
        read_keys,
    )
    from espnet_plugin.tasks.searchers import make_searcher
    from espnet_plugin.tasks.text_output import make_detokenizer

    model, train_args = load_model(args)
    search = make_searcher(args, model, train_args)
    to_text = make_detokenizer(train_args)
    batches = in_batches(read_keys(args.key_file), args.batch_size)
    files = ("text", "token", "token_int", "score")
    names = [f"{n}best_recog/{name}" for n in range(1, args.nbest + 1) for name in files]
    tables = ResumableTables(args.output_dir, names, batches)
    for keys, batch in iterate_batches(args, train_args, batches, tables.finished, inference=True):
        for utt, hypotheses in zip(keys, search(*encode(model, batch)), strict=True):
            values: list[object] = []
            for n in range(args.nbest):
                # A list shorter than asked for repeats its last entry, so that every file has
                # every utterance; ESPnet's readers expect that.
                found = hypotheses[min(n, len(hypotheses) - 1)]
                symbols = [model.token_list[token] for token in found.tokens]
                # A lexicon search knows its words; spelling them back could only lose homophones.
                words = args.search == "lexicon"
                values += [
                    " ".join(found.words) if words else to_text(symbols),
                    " ".join(symbols),
                    " ".join(map(str, found.tokens)),
                    f"{found.score:.6f}",
                ]
            tables.write(utt, *values)
        tables.flush()
    tables.close()


@torch.no_grad()
def main(cmd: Sequence[str] | None = None) -> None:
    """Command line; see the module's docstring."""
    from espnet_plugin.tasks.batch_job import start_logging

    args = get_parser().parse_args(cmd)
    start_logging(args)
    decode(args)


if __name__ == "__main__":
    main()
