"""Goes on with a trained model: new data, a share of the old ones, perhaps new labels.

    espnet-progressive continue --model exp/first --new_data data/june --old_data data/train \\
        --replay 0.1 --output_data data/train_june --config conf/train_june.yaml

Writes a data folder and a pipeline YAML, both to be looked at and changed, and trains nothing.
Then train as ever: `./run.sh --train_set train_june --asr_config conf/train_june.yaml`. The model's
batch-norm and feature statistics stay; its rate begins low, rises to where the model's last stage
ended, and falls. Labels that the model does not know are added (`init_from.vocabulary: extend`).
`--distill 0.5` keeps what it says close to what it said. After training, `interpolate` gives a
model between the old and the new one.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from espnet_plugin.corpora.atomic import write_atomically
from espnet_plugin.corpora.strict_parser import StrictParser
from espnet_plugin.data.replay import write_replayed
from espnet_plugin.packages.sources import find_model
from espnet_plugin.pipeline.launch.console import report_user_errors
from espnet_plugin.pipeline.plan.config import read_yaml

#: Options of the model's last stage that the next one has as well.
KEPT = (
    *("frontend", "frontend_conf", "specaug", "specaug_conf", "normalize"),
    *("encoder", "encoder_conf", "decoder", "decoder_conf", "model", "model_conf"),
    *("batch_type", "batch_size", "batch_bins", "sort_in_batch", "fold_length", "num_workers"),
    *("optim", "optim_conf", "accum_grad", "grad_clip", "grad_clip_value", "seed"),
    *("keep_nbest_models", "best_model_criterion", "accelerators"),
)


def get_parser() -> argparse.ArgumentParser:
    """Options of the command."""
    parser = StrictParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="packed model, experiment or its stage")
    parser.add_argument("--new_data", type=Path, required=True, help="Kaldi-style data folder")
    parser.add_argument("--old_data", type=Path, required=True, help="what the model learned from")
    parser.add_argument("--replay", type=float, default=0.1, help="share of the old data (0.1)")
    parser.add_argument(
        "--distill", type=float, default=0.0, help="weight of keeping to what the model says (0)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the choice of old utterances (0)")
    parser.add_argument("--max_epoch", type=int, default=5, help="of the new training (5)")
    parser.add_argument("--output_data", type=Path, required=True, help="data folder to write")
    parser.add_argument("--config", type=Path, required=True, help="pipeline YAML to write")
    return parser


def ended_at(config: Mapping[str, Any]) -> float:
    """The learning rate to which a stage decayed, before it vanished at the end.

    Raises:
        ValueError: its configuration has none.
    """
    rates = config.get("scheduler_conf") or {}
    if "decayed_lr" in rates:
        return float(rates["decayed_lr"])
    peak = rates.get("peak_lr") or rates.get("initial_lr")
    peak = peak or (config.get("optim_conf") or {}).get("lr")
    if not peak:
        raise ValueError("the model's configuration has no learning rate")
    return float(peak) / 10


def pipeline_of(
    model: str, config: Mapping[str, Any], max_epoch: int, distill: float = 0.0
) -> dict[str, Any]:
    """The pipeline that goes on with a model of this configuration."""
    rate = ended_at(config)
    base = {key: config[key] for key in KEPT if config.get(key) is not None}
    base["model_conf"] = {**(base.get("model_conf") or {}), "freeze_batch_norm": True}
    kept = config.get("loss") == "full_sum"
    stage = {
        "loss": "full_sum",
        **({"loss_conf": config["loss_conf"]} if kept and config.get("loss_conf") else {}),
        "init_from": {"model": model, "vocabulary": "extend"},
        **({"accelerators": {"distill": {"model": model, "weight": distill}}} if distill else {}),
        "max_epoch": max_epoch,
        "scheduler": "onecyclelinear",
        "scheduler_conf": {"peak_lr": rate, "initial_lr": rate / 10, "final_lr": rate / 10},
    }
    return {
        "stage_scheduler_conf": {"stages": ["full_sum"]},
        "base": base,
        "train_stages": {"full_sum": stage},
    }


def work(args: argparse.Namespace) -> None:
    """Writes both."""
    found = find_model(args.model)
    if args.max_epoch < 1:
        raise ValueError(f"--max_epoch {args.max_epoch}: must be at least 1")
    if args.distill < 0:
        raise ValueError(f"--distill {args.distill}: must not be negative")
    place = args.model
    if Path(place).exists():
        place = str(Path(place).resolve())
    try:
        config = read_yaml(found.train_config)
        pipeline = pipeline_of(place, config, args.max_epoch, args.distill)
    except ValueError as error:
        raise ValueError(f"{found.train_config}: {error}") from error
    counts = write_replayed(args.new_data, args.old_data, args.replay, args.seed, args.output_data)
    text = yaml.safe_dump(pipeline, sort_keys=False, allow_unicode=True)
    write_atomically(args.config, f"# Written by espnet-progressive continue; yours now.\n{text}")
    print(f"{args.output_data}: {counts[0]} new and {counts[1]} old utterances")
    print(f"{args.config}: goes on with {found.model_file}")


def main(cmd: Sequence[str] | None = None) -> int:
    """Run the command; returns 0, or 2 after a user error."""
    args = get_parser().parse_args(cmd)
    return report_user_errors(lambda: work(args))


if __name__ == "__main__":
    sys.exit(main())
