"""Write a trained model for runtimes without Python: ONNX files that sherpa-onnx loads.

    espnet-progressive export model.zip --format onnx DIR

The model must have a context-k prediction network (feedforward_prediction) and, so that the
runtime can compute its features from audio, frontend: kaldi_fbank. docs/export.md shows the use.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from espnet_plugin.corpora.strict_parser import StrictParser
from espnet_plugin.packages.imports import add_imports_option
from espnet_plugin.pipeline.launch.console import report_user_errors


def get_parser() -> argparse.ArgumentParser:
    """Return the parser of this command."""
    parser = StrictParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("model", help="packed zip file or its folder, Hub id, or the folder of a train stage")
    add("folder", type=Path, help="where the files go; made if it is not there")
    add("--format", choices=("onnx",), default="onnx", help="(%(default)s)")
    add("--opset", type=int, default=17, help="version of ONNX's operators (%(default)s)")
    add("--no_int8", action="store_true", help="no files with int8 weights")
    add(
        "--streaming",
        action="store_true",
        help="the encoder of a stream, chunk by chunk with its states (sherpa-onnx: online)",
    )
    add("--chunk_ms", type=float, help="milliseconds of a chunk (the longest of the training)")
    add_imports_option(parser)
    add(
        "--any_features",
        action="store_true",
        help="also where the runtime's features are others than the model's",
    )
    return parser


def run(args: argparse.Namespace) -> None:
    """Export.

    Raises:
        ValueError: user errors.
    """
    from espnet_plugin.export import ExportOptions, export_onnx
    from espnet_plugin.inference.speech2text import Speech2Text
    from espnet_plugin.inference.streaming import StreamingSpeech2Text

    if args.chunk_ms is not None and not args.streaming:
        raise ValueError("--chunk_ms belongs to --streaming")
    options = ExportOptions(args.opset, not args.no_int8, args.any_features)
    if args.streaming:
        model = StreamingSpeech2Text.from_pretrained(
            args.model, imports=args.imports, search="beam", chunk_ms=args.chunk_ms
        )
        options = replace(options, chunk=model.chunk)
    else:
        model = Speech2Text.from_pretrained(args.model, imports=args.imports, search="greedy")
    for path in export_onnx(model.asr_model, model.asr_train_args, args.folder, options):
        print(f"{path.stat().st_size:>12,} {path}")


def main(cmd: Sequence[str] | None = None) -> int:
    """Run the command; returns 0, or 2 (user error)."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    args = get_parser().parse_args(cmd)
    try:
        return report_user_errors(lambda: run(args))
    except ImportError as error:
        logging.error("%s", error)
        return 2


if __name__ == "__main__":
    sys.exit(main())
