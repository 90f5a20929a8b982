"""A model between two: the weights of an old and of a new one, which started from it.

    espnet-progressive interpolate --old exp/first --new exp/train_june --share 0.5 \\
        --output_dir exp/between

What `continue` trains forgets some of the old data; a share of the old weights brings some of it
back, at no cost (arXiv 2306.10860). Writes `model.pth` and its `config.yaml`, the new model's, for
`decode`, or for `progressive.sh --download_model exp/between/model.pth`. Labels that only the new
model has keep the rows that they would start with in the old one.
"""

from __future__ import annotations

import argparse
import functools
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from espnet_plugin.corpora.atomic import save_atomically
from espnet_plugin.corpora.strict_parser import StrictParser
from espnet_plugin.packages.sources import find_model
from espnet_plugin.pipeline.launch.console import report_user_errors

if TYPE_CHECKING:
    from torch import Tensor


def get_parser() -> argparse.ArgumentParser:
    """Options of the command."""
    parser = StrictParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--old", required=True, help="packed model, experiment or its stage")
    parser.add_argument("--new", required=True, help="the same, of what was trained from it")
    parser.add_argument("--share", type=float, default=0.5, help="of the new weights (0.5)")
    parser.add_argument("--output_dir", type=Path, required=True, help="folder to write")
    return parser


def interpolated(
    old: Mapping[str, Tensor], new: Mapping[str, Tensor], share: float
) -> dict[str, Tensor]:
    """(1 - share) old + share new; numbers that are no floats, and at the ends all, as they are.

    Raises:
        ValueError: they are of different models.
    """
    if old.keys() != new.keys():
        differ = sorted(old.keys() ^ new.keys())
        raise ValueError(f"only one of them has {', '.join(differ[:5])}")
    shapes = [name for name in new if old[name].shape != new[name].shape]
    if shapes:
        raise ValueError(f"they have {', '.join(shapes[:5])} in different sizes")
    return {
        name: old[name].lerp(value, share) if value.is_floating_point() else value
        for name, value in new.items()
    }


def work(args: argparse.Namespace) -> None:
    """Writes the model."""
    import torch

    from espnet_plugin.data.checkpoint_vocabulary import known_tokens
    from espnet_plugin.nn.vocabulary import extend_vocabulary

    if not 0.0 <= args.share <= 1.0:
        raise ValueError(f"--share {args.share}: must be a share, 0 to 1")
    old, new = find_model(args.old), find_model(args.new)
    before, after = (torch.load(m.model_file, "cpu", weights_only=True) for m in (old, new))
    try:
        known, tokens = known_tokens(old.model_file), known_tokens(new.model_file)
        if known != tokens:
            before = extend_vocabulary(before, known, tokens)
        between = interpolated(before, after, args.share)
    except ValueError as error:
        raise ValueError(f"{old.model_file} and {new.model_file}: {error}") from error
    args.output_dir.mkdir(parents=True, exist_ok=True)
    shutil.copy(new.train_config, args.output_dir / "config.yaml")
    target = args.output_dir / "model.pth"
    save_atomically(target, functools.partial(torch.save, between))
    print(f"{target}: {args.share:g} of {new.model_file}, the rest of {old.model_file}")


def main(cmd: Sequence[str] | None = None) -> int:
    """Run the command; returns 0, or 2 after a user error."""
    args = get_parser().parse_args(cmd)
    return report_user_errors(lambda: work(args))


if __name__ == "__main__":
    sys.exit(main())
