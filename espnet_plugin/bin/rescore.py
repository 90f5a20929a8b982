"""Rescores N-best lists with further language models, or sorts them under other scales.

    espnet-progressive rescore --nbest_dir lists/test --output_dir rescored/test \\
        --lm word:4gram.arpa:0.5 espnet-text:exp/lm/valid.loss.ave.pth:0.3 --scales scales.json

The new models come after those of the search. `--scales` takes what `tune-scales` wrote for lists
with the same models; tune on rescored lists of the development set, then give the file here for
the test sets. The output is a decoding as `decode` makes it: <n>best_recog with all score parts,
and the best hypotheses in the folder itself.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from espnet_plugin.corpora.atomic import write_atomically
from espnet_plugin.corpora.strict_parser import StrictParser
from espnet_plugin.data.decode_files import NBEST_FILES, SEARCH, nbest_names
from espnet_plugin.data.lm_spec import (
    START_SCALE,
    LmSpec,
    lm_options,
    lm_specs,
    named_files,
    parse_lm,
)
from espnet_plugin.data.nbest_lists import ListEntry, list_files, read_nbest, read_settings
from espnet_plugin.pipeline.launch.console import report_user_errors
from espnet_plugin.pipeline.state.origin import Origin, content_of, origin_of, require_origin


def get_parser() -> argparse.ArgumentParser:
    """Options of the command."""
    parser = StrictParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nbest_dir", type=Path, required=True, help="folder of decode or rescore")
    parser.add_argument("--output_dir", type=Path, required=True)
    parser.add_argument(
        "--lm",
        nargs="+",
        action="extend",
        default=[],
        metavar="KIND:FILE[:SCALE]",
        help="word, ngram, espnet as for decode; espnet-text: a model of ESPnet's LM task with "
        f"units of its own; without scale: {START_SCALE}, to be tuned",
    )
    parser.add_argument("--scales", type=Path, help="scales.json of tune-scales")
    parser.add_argument("--ilm_scale", type=float, help="default: that of the search")
    parser.add_argument("--batch_size", type=int, default=32, help="utterances per batch")
    parser.add_argument("--ngpu", type=int, default=0)
    parser.add_argument("--log_level", default="INFO")
    return parser


def scales_of(
    args: argparse.Namespace, settings: dict[str, Any], specs: Sequence[LmSpec]
) -> tuple[list[float], float | None]:
    """Scales of all language models, and of the internal one.

    Raises:
        ValueError: ``--scales`` for another number of models.
    """
    ilm = args.ilm_scale if args.ilm_scale is not None else settings.get("ilm_scale")
    if args.scales is None:
        return [float(spec.scale or 0.0) for spec in specs], ilm
    if not args.scales.is_file():
        raise ValueError(f"{args.scales}: no such file; tune-scales writes it")
    found = json.loads(args.scales.read_text(encoding="utf-8"))["scales"]
    if len(found["lm"]) != len(specs):
        raise ValueError(
            f"{args.scales} has scales for {len(found['lm'])} language models, there are "
            f"{len(specs)}: {' '.join(map(str, specs))}"
        )
    return [float(v) for v in found["lm"]], found["ilm"] if args.ilm_scale is None else ilm


def sorted_anew(
    entries: Sequence[ListEntry], lm_scales: Sequence[float], ilm: float, pronunciation: float
) -> list[ListEntry]:
    """The list under these scales."""
    from espnet_plugin.search.scaling import scaled_sum

    scored = []
    for entry in entries:
        score = entry.am - ilm * entry.ilm + pronunciation * entry.pronunciation
        score += scaled_sum(lm_scales, entry.lms)
        scored.append(replace(entry, score=score))
    return sorted(scored, key=lambda entry: -entry.score)


def write_search(path: Path, settings: dict[str, Any], specs: Sequence[LmSpec]) -> None:
    """The settings of the lists, as if all models had taken part in the search."""
    import yaml

    write_atomically(path, yaml.safe_dump({**settings, **lm_options(specs)}))


def origin_of_lists(
    args: argparse.Namespace, models: Sequence[LmSpec], ilm: float | None
) -> Origin:
    """What the lists written depend on: those read, all models with their scales.

    Raises:
        ValueError: a file is missing.
    """
    options = {"lm": list(map(str, models)), "ilm_scale": ilm}
    files = {f"file {path.name}": path for path in named_files({"lm": args.lm})}
    origin = origin_of(options, files)
    return {**origin, "lists": content_of(list_files(args.nbest_dir))}


def rescore(args: argparse.Namespace) -> None:
    """Write the lists anew, batch by batch; a killed run goes on from where it was.

    Raises:
        ValueError: broken lists, models or scales, or a folder with other results.
    """
    from espnet_plugin.inference.batch_job import ResumableTables, in_batches
    from espnet_plugin.inference.language_models import sentence_scorer

    settings, lists = read_settings(args.nbest_dir), read_nbest(args.nbest_dir)
    new = [parse_lm(text) for text in args.lm]
    new = [spec if spec.scale is not None else spec.with_scale(START_SCALE) for spec in new]
    specs = [*lm_specs(settings), *new]
    lm_scales, ilm = scales_of(args, settings, specs)
    device = "cuda" if args.ngpu else "cpu"
    models = [sentence_scorer(spec, None, device) for spec in new]
    size = max(len(entries) for entries in lists.values())
    batches = in_batches(sorted(lists), args.batch_size)
    scaled = [spec.with_scale(scale) for spec, scale in zip(specs, lm_scales, strict=True)]
    require_origin(args.output_dir, origin_of_lists(args, scaled, ilm), nbest_names(size))
    tables = ResumableTables(args.output_dir, nbest_names(size), batches)
    for number, keys in enumerate(batches[tables.finished :], tables.finished + 1):
        sentences = [(entry.words, entry.tokens) for utt in keys for entry in lists[utt]]
        columns = iter(list(zip(*(model(sentences) for model in models), strict=True)))
        for utt in keys:
            entries = [
                replace(entry, lms=(*entry.lms, *(next(columns) if models else ())))
                for entry in lists[utt]
            ]
            best = sorted_anew(
                entries, lm_scales, ilm or 0.0, float(settings.get("pronunciation_scale", 0.0))
            )
            rows = [best[min(n, len(best) - 1)].values for n in range(size)]
            tables.write(utt, *(value for row in rows for value in row))
        tables.flush()
        logging.info("batch %d/%d", number, len(batches))
    tables.close()
    write_search(args.output_dir / SEARCH, {**settings, "ilm_scale": ilm, "nbest": size}, scaled)
    for name in NBEST_FILES:  # as a merged decoding has it
        content = (args.output_dir / "1best_recog" / name).read_text(encoding="utf-8")
        write_atomically(args.output_dir / name, content)


def main(cmd: Sequence[str] | None = None) -> int:
    """Run the command; returns 0, or 2 after a user error."""
    args = get_parser().parse_args(cmd)
    logging.basicConfig(level=args.log_level, format="%(asctime)s %(levelname)s: %(message)s")
    return report_user_errors(lambda: rescore(args))


if __name__ == "__main__":
    sys.exit(main())
