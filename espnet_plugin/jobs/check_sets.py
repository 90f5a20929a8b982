"""Check several data folders in one process, and write their filtered copies.

    python -m espnet_plugin.jobs.check_sets --org dump/raw/org --dump dump/raw \\
        --train_sets train dev --test_sets test -- <options of check_data for training sets>

Every set goes through `espnet_plugin.bin.check_data`; test sets are judged by what decoding
needs. All sets are checked before the exit status tells of the first fault.
"""

from __future__ import annotations

import argparse
import itertools
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from espnet_plugin.bin import check_data
from espnet_plugin.corpora.strict_parser import StrictParser

#: Options that also apply to sets that are only decoded.
_SPEECH_OPTIONS = ("--feats_type", "--fs", "--nj", "--max_skipped", "--scan")


def get_parser() -> argparse.ArgumentParser:
    """Return the parser of this command."""
    parser = StrictParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--org", type=Path, required=True, help="where the sets are")
    parser.add_argument("--dump", type=Path, required=True, help="where filtered copies go")
    parser.add_argument("--train_sets", nargs="+", required=True)
    parser.add_argument("--test_sets", nargs="*", default=[])
    parser.add_argument("options", nargs="*", help="after --: options of check_data")
    return parser


def main(cmd: Sequence[str] | None = None) -> int:
    """Run the command; returns 0, or 2 if a set cannot be used."""
    tokens = list(sys.argv[1:] if cmd is None else cmd)
    cut = tokens.index("--") if "--" in tokens else len(tokens)
    args, given = get_parser().parse_args(tokens[:cut]), tokens[cut + 1 :]
    speech = [
        token
        for name, value in itertools.pairwise(given)
        if name in _SPEECH_OPTIONS
        for token in (name, value)
    ]
    status = 0
    for name in dict.fromkeys([*args.train_sets, *args.test_sets]):
        source, target = args.org / name, args.dump / name
        options = given if name in args.train_sets else [*speech, "--evaluation"]
        cache = args.dump / f".cache_{name}"
        place = ["--data_dir", str(source), "--write_filtered", str(target), "--cache", str(cache)]
        status = max(status, check_data.main([*place, *options]))
        if status == 0 and (source / "feats_dim").exists():
            shutil.copy(source / "feats_dim", target / "feats_dim")
    return status


if __name__ == "__main__":
    sys.exit(main())
