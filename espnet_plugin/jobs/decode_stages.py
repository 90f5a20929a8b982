"""Decode data sets with the finished train stages of a pipeline.

    python -m espnet_plugin.jobs.decode_stages <the options of train> \\
        --inference_config conf/decode_beam8.yaml --decode_data dump/raw/dev dump/raw/test

Output: <expdir>/<tag>/decode/<train stage>_<inference tag>/<set>/{text,token,token_int,score,ctm}
and N folders <n>best_recog; with --tune_scales true, <expdir>/<tag>/scales/<train stage>_<tag> too.
"""

from __future__ import annotations

import argparse
import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from espnet_plugin.bin.train import get_parser as train_parser
from espnet_plugin.data.lm_spec import parse_lm, with_start_scales
from espnet_plugin.pipeline.decoding import Decoding, decode, default_tag, finished_stages
from espnet_plugin.pipeline.launch.console import run_command, show
from espnet_plugin.pipeline.pipeline import Pipeline
from espnet_plugin.pipeline.plan.command_line import (
    parse_with_stage_args,
    read_command_line,
    section_from_arguments,
    str2bool,
)
from espnet_plugin.pipeline.tuning import tuned_configs
from espnet_plugin.scoring.tune_scales import ILM_GRID, LM_GRID


def get_parser() -> argparse.ArgumentParser:
    """Return the parser of this command."""
    parser = train_parser()
    parser.description = __doc__
    parser.add_argument("--decode_data", type=Path, nargs="+", required=True, help="data folders")
    parser.add_argument("--inference_config", type=Path, help="YAML with options of decode")
    parser.add_argument("--inference_tag", help="default: from the YAML's name")
    parser.add_argument(
        "--decode_stages", nargs="+", help="train stages, or: final (default: all finished ones)"
    )
    parser.add_argument(
        "--inference_args", type=shlex.split, default=[], metavar='"..."',
        help="options of decode that go before the YAML's",
    )  # fmt: skip
    parser.add_argument(
        "--inference_asr_model", metavar="FILE", help="of every stage, instead of its checkpoint"
    )
    parser.add_argument(
        "--lm", nargs="+", action="extend", default=[], metavar="KIND:FILE:SCALE",
        help="language models, instead of the YAML's (see decode)",
    )  # fmt: skip
    parser.add_argument(
        "--tune_scales", type=str2bool, default=False, help="choose scales on --valid_data first"
    )
    parser.add_argument(
        "--tune_passes", type=int, default=1, help="2: once more, with the scales first chosen"
    )
    parser.add_argument("--lm_grid", type=float, nargs="+", default=list(LM_GRID))
    parser.add_argument(
        "--ilm_grid", type=float, nargs="+", default=list(ILM_GRID), help="0: no subtraction"
    )
    return parser


def language_models(given: Sequence[str], tune: bool) -> dict[str, list[str]]:
    """Options of decode for the language models of the command line.

    Raises:
        ValueError: a model without a scale, where scales are not tuned.
    """
    specs = [parse_lm(text) for text in given]
    missing = [str(spec) for spec in specs if spec.scale is None]
    if missing and not tune:
        raise ValueError(f"no scale for {', '.join(missing)}; append one, or --tune_scales true")
    return {"lm": with_start_scales(given)} if specs else {}


def tag_of(arguments: Sequence[str]) -> str:
    """What arguments add to a decoding's name, as in ESPnet: ``_beam_size4``."""
    text = "".join(arguments).replace("--", "_").removesuffix(".pth")
    if text and not text.startswith("_"):
        text = f"_{text}"
    return re.sub(r"[ |=/:]", "", text)


def run(cmd: Sequence[str]) -> None:
    """Decode what is not decoded yet.

    Raises:
        ValueError: user errors.
        ChildFailed: a job failed.
    """
    args, stage_args = parse_with_stage_args(get_parser(), cmd)
    config: Path | None = args.inference_config
    if config is not None and not config.is_file():
        raise ValueError(f"{config}: no such decoding configuration")
    pipeline = Pipeline(*read_command_line(args, stage_args), show=show)
    stages = finished_stages(pipeline, args.decode_stages)
    overrides = language_models(args.lm, args.tune_scales)
    tag = args.inference_tag or default_tag(config) + ("_lm" if overrides else "")
    if args.inference_tag is None:
        tag += "".join(map(tag_of, (args.inference_args, [args.inference_asr_model or ""])))
    overrides |= section_from_arguments("inference", args.inference_args)
    configs = dict.fromkeys(stages, config)
    if args.tune_scales:
        grids = {"lm_grid": args.lm_grid, "ilm_grid": args.ilm_grid}
        configs = tuned_configs(
            pipeline, stages, args.valid_data, config, tag, overrides, grids, args.tune_passes
        )
        overrides = {}  # the tuned YAML has them
    decodings = [
        Decoding(s, d, configs[s], tag, overrides) for s in stages for d in args.decode_data
    ]
    decode(pipeline, decodings)


def main(cmd: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status, see `run_command`."""
    return run_command(lambda: run(list(sys.argv[1:] if cmd is None else cmd)))


if __name__ == "__main__":
    sys.exit(main())
