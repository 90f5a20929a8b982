"""Chooses language-model scales on a development set: the grid, and a decoding YAML with the best.

    espnet-progressive tune-scales --nbest_dir lists --text dump/dev/text --output_dir scales
    espnet-progressive tune-scales <the options of decode> --text dump/dev/text --output_dir scales

Lists come from `decode --nbest N` or `rescore`; several folders (the same models, other scales)
are sorted together. Given decode's options instead, the set is decoded first, with the scales given
as a start, into <output_dir>/nbest; --tune_passes 2 decodes it once more with the scales chosen
from that, into <output_dir>/nbest2, and chooses from both. Each point of the grid sorts the lists
anew. Output: grid.md, scales.json (for `rescore --scales`) and decode.yaml (for decode's --config).
Decode again with the chosen scales before believing the error rate. Never give it a test set.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from espnet_plugin.corpora.strict_parser import StrictParser
from espnet_plugin.data.lm_spec import ESPNET_LM_OPTIONS, with_start_scales
from espnet_plugin.pipeline.pipeline import move_aside
from espnet_plugin.pipeline.state.origin import OtherOrigin
from espnet_plugin.scoring.tune_scales import ILM_GRID, LM_GRID, same_scales, tune_scales

#: Where the scales of a search are.
SCALES = (*ESPNET_LM_OPTIONS, "lm", "ilm_scale")
#: What lists are made with where the command line says nothing else.
LIST_OPTIONS = {"nbest": 20, "beam_size": 20, "ilm_scale": 0.1, "word_times": "none"}


def add_grid_arguments(parser: argparse.ArgumentParser) -> None:
    """The grids, and what the lists are compared with."""
    parser.add_argument(
        "--nbest_dir", type=Path, nargs="+", help="N-best lists that are there already"
    )
    parser.add_argument("--tune_passes", type=int, default=1, help="times to decode and choose")
    parser.add_argument("--text", type=Path, help="transcripts; default: the data's text")
    parser.add_argument("--lm_grid", type=float, nargs="+", default=list(LM_GRID))
    parser.add_argument("--ilm_grid", type=float, nargs="+", default=list(ILM_GRID))


def get_parser(with_model: bool = True) -> argparse.ArgumentParser:
    """Options: those of decode, the grids and where to write."""
    if not with_model:
        parser: argparse.ArgumentParser = StrictParser(
            description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
        )
        parser.add_argument("--output_dir", type=Path, required=True)
        parser.add_argument("--log_level", default="INFO")
    else:
        from espnet_plugin.bin.decode import get_parser as decode_parser

        parser = decode_parser()
        parser.description = __doc__
        parser.set_defaults(**LIST_OPTIONS)
    add_grid_arguments(parser)
    return parser


def decode_and_tune(args: argparse.Namespace) -> dict[str, Any]:
    """Decode the set and choose, ``tune_passes`` times or until the scales stay as they were.

    Raises:
        ValueError: bad options or files.
    """
    from espnet_plugin.inference.batch_job import start_logging
    from espnet_plugin.inference.decode_job import decode_to_folder

    start_logging(args)
    data = args.data_path_and_name_and_type
    texts = [Path(path) for path, name, _ in data if name == "text"]
    if args.text is None and not texts:
        raise ValueError("--text is missing: the transcripts of the development set")
    given = argparse.Namespace(**vars(args))
    for name in ("nbest_dir", "text", "lm_grid", "ilm_grid", "tune_passes"):
        delattr(given, name)
    given.lm = with_start_scales(args.lm)
    given.data_path_and_name_and_type = [triple for triple in data if triple[1] != "text"]
    lists: list[Path] = []
    while True:
        number = "" if not lists else str(len(lists) + 1)
        given.output_dir = args.output_dir / f"nbest{number}"
        try:
            decode_to_folder(given)
        except OtherOrigin:
            if not lists:  # else they were made with scales that are no longer chosen
                raise
            move_aside(given.output_dir, logging.info)
            decode_to_folder(given)
        lists.append(given.output_dir)
        chosen = choose(args, lists, args.text or texts[0])
        if len(lists) == args.tune_passes or same_scales(chosen, vars(given)):
            return chosen
        vars(given).update({name: chosen.get(name) for name in SCALES})


def choose(args: argparse.Namespace, lists: Sequence[Path], text: Path) -> dict[str, Any]:
    """`tune_scales` with the grids of the command line."""
    grids = {"lm_grid": args.lm_grid, "ilm_grid": args.ilm_grid}
    return tune_scales(lists, text, args.output_dir, **grids)


def main(cmd: Sequence[str] | None = None) -> int:
    """Run the command; returns 0, or 2 after a user error."""
    tokens = list(sys.argv[1:] if cmd is None else cmd)
    named = {token.partition("=")[0] for token in tokens}
    # Without a model to run, neither ESPnet nor torch has to be waited for at a typing error.
    with_model = "--nbest_dir" not in named
    args = get_parser(with_model).parse_args(tokens)
    logging.basicConfig(level=args.log_level, format="%(levelname)s: %(message)s")
    try:
        if args.tune_passes < 1:
            raise ValueError(f"--tune_passes must be at least 1, got {args.tune_passes}")
        if with_model:
            chosen = decode_and_tune(args)
        elif args.text is None:
            raise ValueError("--nbest_dir needs --text, the transcripts of the development set")
        else:
            chosen = choose(args, args.nbest_dir, args.text)
    except ValueError as error:
        logging.error("%s", error)
        return 2
    shown = {name: chosen[name] for name in ("lm", "ilm_scale") if name in chosen}
    logging.info("best: %s; see %s", shown, args.output_dir)
    return 0


if __name__ == "__main__":
    sys.exit(main())
