"""Chooses language-model scales on a development set: the grid, and a decoding YAML with the best.

The set is decoded once into N-best lists, with moderate scales; each point of the grid sorts the
lists anew. Decode again with the chosen scales before believing the error rate. Never give it a
test set.
"""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import yaml


def get_parser() -> argparse.ArgumentParser:
    """Options: decode's, the grids and where to write."""
    from espnet_plugin.tasks.batch_job import make_parser
    from espnet_plugin.tasks.search_options import add_search_arguments
    from espnet_plugin.tasks.searchers import add_lexicon_arguments

    parser = make_parser(__doc__ or "", ("asr_train_config", "asr_model_file"))
    parser.add_argument("--search", choices=["beam", "lexicon"], default="beam")
    add_search_arguments(parser, lm_scale=0.4)
    add_lexicon_arguments(parser)
    parser.set_defaults(nbest=20, beam_size=20, ilm_scale=0.1, word_lm_scale=0.4)
    parser.add_argument("--lm_grid", type=float, nargs="+", default=[0.0, 0.2, 0.4, 0.6, 0.8, 1.0])
    parser.add_argument("--ilm_grid", type=float, nargs="+", default=[0.0, 0.1, 0.2, 0.3])
    return parser


def nbest_lists(args: argparse.Namespace) -> tuple[list[Any], list[list[str]], Any]:
    """N-best lists of the set, its reference words, and the function from hypothesis to words."""
    from espnet_plugin.tasks.batch_job import (
        encode,
        in_batches,
        iterate_batches,
        load_model,
        read_keys,
    )
    from espnet_plugin.tasks.searchers import make_searcher
    from espnet_plugin.tasks.text_output import make_detokenizer

    model, train_args = load_model(args)
    search, to_text = make_searcher(args, model, train_args), make_detokenizer(train_args)

    def spell(tokens: Sequence[int]) -> list[str]:
        return to_text([model.token_list[token] for token in tokens]).split()

    lists, references = [], []
    batches = in_batches(read_keys(args.key_file), args.batch_size)
    for _, batch in iterate_batches(args, train_args, batches):
        lists += search(*encode(model, batch))
        for row, length in zip(batch["text"].tolist(), batch["text_lengths"].tolist(), strict=True):
            references.append(spell(row[:length]))
    return lists, references, lambda h: list(h.words) or spell(h.tokens)


def tune(args: argparse.Namespace) -> None:
    """Writes `grid.md`, `scales.json` and `decode.yaml` into the output directory.

    Raises:
        ValueError: for more than one language model (grids for one are what the command offers).
    """
    from espnet_plugin.search import search_scales

    lists, references, units = nbest_lists(args)
    models = len(lists[0][0].lm_scores)
    if models > 1:
        raise ValueError(f"tune-scales handles one language model, this search has {models}")
    grid = [sorted(args.lm_grid)] * models
    points = search_scales(lists, references, grid, sorted(args.ilm_grid), units=units)
    best = points[0]
    lm_scale = best.lm_scales[0] if models else 0.0
    name = "word_lm_scale" if args.search == "lexicon" else "lm_scale"
    chosen: dict[str, Any] = {"search": args.search, "beam_size": args.beam_size}
    chosen |= {"ilm_scale": best.ilm_scale, name: lm_scale}
    for option in ("lexicon", "word_lm", "ngram_file"):
        value = getattr(args, option)
        if value is not None:
            chosen[option] = str(value)
    rows = [
        f"| {' '.join(map(str, p.lm_scales)) or '-'} | {p.ilm_scale} | {100 * p.rate:.2f} |"
        for p in points
    ]
    head = "| LM scale | ILM scale | WER on the lists |\n| --- | --- | --- |"
    _write(args.output_dir / "grid.md", "\n".join([head, *rows]) + "\n")
    _write(
        args.output_dir / "scales.json",
        json.dumps({"chosen": chosen, "wer": best.rate, "utterances": len(lists)}, indent=1) + "\n",
    )
    title = f"# Scales tuned on {args.key_file} by tune-scales; WER on its lists {best.rate:.4f}\n"
    _write(args.output_dir / "decode.yaml", title + yaml.safe_dump(chosen, sort_keys=False))
    logging.info("best: %s, %.2f %% WER; see %s", chosen, 100 * best.rate, args.output_dir)


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8")


@torch.no_grad()
def main(cmd: Sequence[str] | None = None) -> None:
    """Command line; see the module's docstring."""
    from espnet_plugin.tasks.batch_job import start_logging

    args = get_parser().parse_args(cmd)
    start_logging(args)
    tune(args)


if __name__ == "__main__":
    main()
