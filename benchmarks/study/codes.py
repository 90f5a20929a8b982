"""A teacher's codes for an arm of the study (`accelerators.repa`), or their control.

    python benchmarks/study/codes.py --teacher exp/base/mbr --output_dir exp/student-codes

Codes the stage's own training utterances with its averaged model, on one thread. `--random` takes a
model of the same shape that has learned nothing. Killed and started again, it goes on; what is
finished stays.
"""

from __future__ import annotations

import argparse
import functools
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import yaml

from espnet_plugin.corpora.atomic import save_atomically, write_atomically
from espnet_plugin.corpora.strict_parser import StrictParser
from espnet_plugin.packages.sources import stage_checkpoint

#: File with the seconds that it took, written last.
SECONDS = "seconds"


def get_parser() -> argparse.ArgumentParser:
    """Return the parser of this command."""
    parser = StrictParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--teacher", type=Path, required=True, help="folder of a finished stage")
    parser.add_argument("--output_dir", type=Path, required=True, help="takes the codes")
    parser.add_argument("--books", type=int, default=16, help="see espnet-progressive teacher (16)")
    parser.add_argument("--codes", type=int, default=256, help="of each book (256)")
    parser.add_argument("--random", action="store_true", help="weights that nobody trained")
    return parser


def write_random(config: Path, target: Path) -> None:
    """Leave the parameters that a model of this configuration begins with."""
    import torch

    from espnet_plugin.tasks.progressive import ProgressiveASRTask

    torch.manual_seed(0)
    model, _ = ProgressiveASRTask.build_model_from_file(config)
    save_atomically(target, functools.partial(torch.save, model.state_dict()))


def arguments(args: argparse.Namespace) -> list[str]:
    """Of `espnet-progressive teacher`."""
    config = args.teacher / "config.yaml"
    trained: dict[str, Any] = yaml.safe_load(config.read_text(encoding="utf-8"))
    model = args.output_dir / "random.pth" if args.random else stage_checkpoint(args.teacher)
    data = {name: (path, kind) for path, name, kind in trained["train_data_path_and_name_and_type"]}
    chosen = [f"{data[name][0]},{name},{data[name][1]}" for name in ("speech", "text")]
    return [
        *("--train_config", str(config), "--model_file", str(model)),
        *("--output_dir", str(args.output_dir), "--key_file", str(data["text"][0])),
        *(text for one in chosen for text in ("--data_path_and_name_and_type", one)),
        *("--books", str(args.books), "--codes", str(args.codes)),
    ]


def main(cmd: Sequence[str] | None = None) -> int:
    """Run the command; returns the job's status."""
    args = get_parser().parse_args(cmd)
    if (args.output_dir / SECONDS).is_file():
        return 0
    from espnet_plugin.jobs.reuse import teacher

    begun = time.monotonic()
    args.output_dir.mkdir(parents=True, exist_ok=True)
    if args.random and not (args.output_dir / "random.pth").is_file():
        write_random(args.teacher / "config.yaml", args.output_dir / "random.pth")
    status = teacher.main(arguments(args))
    if status == 0:
        write_atomically(args.output_dir / SECONDS, f"{time.monotonic() - begun:.1f}\n")
    return status


if __name__ == "__main__":
    sys.exit(main())
