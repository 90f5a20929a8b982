"""Decodes utterances: ESPnet's layout, with score parts, word times, confidences and a CTM.

`<n>best_recog/{text,token,token_int,score,score_parts}` for n = 1 ... nbest, `word_times`, `ctm`,
`timing` (the real-time factor is logged at the end), `search.yaml` (the options that made it), and
`skipped`. Killed and started again, it goes on with the next batch.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path


def add_decode_arguments(parser: argparse.ArgumentParser) -> None:
    """What a decoding writes besides N-best lists."""
    parser.add_argument(
        "--word_times",
        choices=["align", "frames", "none"],
        default="align",
        help="align: best path of the best hypothesis; frames: as the beam noted them (free)",
    )
    parser.add_argument(
        "--boundary_file",
        type=Path,
        help="made by learn_boundaries: word times are those of the sound, not of the labels",
    )
    parser.add_argument(
        "--feature_shift", type=float, default=0.01, help="seconds per frame of extracted features"
    )


def get_parser() -> argparse.ArgumentParser:
    """Options of the job; `--config decode.yaml` as for ESPnet's asr_inference."""
    from espnet_plugin.inference.batch_job import make_parser
    from espnet_plugin.inference.search_options import add_search_arguments

    parser = make_parser(__doc__ or "", ("asr_train_config", "asr_model_file"))
    add_search_arguments(parser)
    add_decode_arguments(parser)
    return parser


def main(cmd: Sequence[str] | None = None) -> int:
    """Run the command; returns 0, or 2 after a user error."""
    from espnet_plugin.inference.batch_job import run_job
    from espnet_plugin.inference.decode_job import decode_to_folder

    return run_job(get_parser(), decode_to_folder, cmd)


if __name__ == "__main__":
    sys.exit(main())
