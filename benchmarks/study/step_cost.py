"""What a training step of every stage costs, as a share of full_sum's, over vocabulary and labels.

    python benchmarks/study/step_cost.py --config conf/train_progressive_paper.yaml \\
        --vocabulary 500 5000 --labels 20 60

One model takes the criteria of all stages in turn, step by step, so that whatever else the machine
does hits all alike; seconds are this process's own processor time, on one thread. Front-end and
augmentation are left out, and with it the second augmentation of each utterance that
`consistency_scale` asks for: it doubles a step, and a recipe then halves its batches. Results are
added to benchmarks/study/step_cost.json, from which RESULTS_study.md has its table.

Shape legend: B utterances, T' feature frames, S labels of each, V vocabulary with blank.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import json
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks.study.step_table import FILE
from espnet_plugin.corpora.atomic import write_atomically
from espnet_plugin.corpora.strict_parser import StrictParser
from espnet_plugin.pipeline.plan.config import espnet_options, load_pipeline_config

STAGES = ("align", "viterbi", "full_sum", "mbr")
_FEATURES = 80


def get_parser() -> argparse.ArgumentParser:
    """Return the parser of this command."""
    parser = StrictParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--config", type=Path, required=True, help="a pipeline's YAML, for the model and losses")
    add("--vocabulary", type=int, nargs="+", required=True, help="V, one or more")
    add("--labels", type=int, nargs="+", required=True, help="S, one or more")
    add("--utterances", type=int, default=2, help="B (2)")
    add("--frames", type=int, default=600, help="T' of each utterance (600: 6 s)")
    add("--repeats", type=int, default=3, help="steps of each stage, after one that warms up (3)")
    add("--precision", choices=("float32", "bfloat16"), default="float32")
    add("--out", type=Path, default=FILE, help="JSON file that the measurements are added to")
    return parser


def stages_of(config: Path) -> Mapping[str, Mapping[str, Any]]:
    """Train stages of a YAML, whose paths are relative to the recipe's folder or to the file."""
    config = config.resolve()
    with contextlib.chdir(config.parent.parent):
        return load_pipeline_config(config).train_stages


def stage_arguments(
    config: Path, stage: str, vocabulary: int, precision: str
) -> argparse.Namespace:
    """ESPnet's arguments of a stage, on features, without what is no part of a step's losses.

    Raises:
        ValueError: the YAML cannot be read or lacks the stage.
    """
    from espnet_plugin.tasks.progressive import ProgressiveASRTask

    stages = stages_of(config)
    if stage not in stages:
        raise ValueError(f"{config}: no stage {stage}; there are {', '.join(stages)}")
    options = {
        "loss": stage,
        "loss_conf": {},  # the default has those of another loss
        **espnet_options(stages[stage]),
        "token_list": ["<blank>", "<unk>", *(f"t{n}" for n in range(vocabulary - 3)), "<sos/eos>"],
        "input_size": _FEATURES,
        "frontend": None,
        "normalize": None,
        "specaug": None,
        "accelerators": {"precision": {"autocast": precision}},
    }
    if "consistency_scale" in options["loss_conf"]:
        options["loss_conf"] = {**options["loss_conf"], "consistency_scale": 0.0}
    with mock.patch.object(sys, "argv", sys.argv[:1]):  # ESPnet reads the command line here
        defaults = ProgressiveASRTask.get_default_config()
    return argparse.Namespace(**{**defaults, **options})


def measure(
    config: Path, shape: tuple[int, int, int, int], repeats: int, precision: str = "float32"
) -> dict[str, float]:
    """Seconds of processor time of a step of every stage, medians of interleaved steps.

    Args:
        shape: B, T', S and V.
    """
    import torch

    from espnet_plugin.nn.accelerators import Progress
    from espnet_plugin.tasks.progressive import ProgressiveASRTask, build_criterion
    from espnet_plugin.tasks.step_probe import ProbeBatch, random_batch

    torch.set_num_threads(1)
    torch.manual_seed(0)
    count, frames, labels, vocabulary = shape
    known = stages_of(config)
    stages = [stage for stage in STAGES if stage in known]
    arguments = {s: stage_arguments(config, s, vocabulary, precision) for s in stages}
    model = ProgressiveASRTask.build_model(arguments["full_sum"])
    optimizer = ProgressiveASRTask.build_optimizers(arguments["full_sum"], model)[0]
    model.accelerators.before_batch(Progress(1, 1, 2, 1))
    model.train()
    batch = ProbeBatch(count, frames, labels, float(count * frames))
    work = {}
    for stage in stages:
        model.criterion = build_criterion(arguments[stage])
        data = random_batch(model, arguments[stage], batch, torch.device("cpu"))
        work[stage] = (model.criterion, data)
    seconds: dict[str, list[float]] = {stage: [] for stage in stages}
    for _ in range(repeats + 1):
        for stage, (criterion, data) in work.items():
            model.criterion = criterion
            begun = time.process_time()
            model(**data)[0].sum().backward()
            optimizer.step()
            optimizer.zero_grad()
            seconds[stage].append(time.process_time() - begun)
    return {stage: statistics.median(times[1:]) for stage, times in seconds.items()}


def add_measurement(path: Path, entry: Mapping[str, Any]) -> None:
    """Add to the file, in the place of an older measurement of the same."""
    entries = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else []
    key = ("config", "utterances", "frames", "labels", "vocabulary", "precision")
    kept = [old for old in entries if any(old[name] != entry[name] for name in key)]
    text = ",\n".join(json.dumps(one) for one in [*kept, entry])
    write_atomically(path, f"[\n{text}\n]\n")


def main(cmd: Sequence[str] | None = None) -> int:
    """Run the command; returns 0, or 2 after a user error."""
    args = get_parser().parse_args(cmd)
    try:
        for vocabulary in args.vocabulary:
            for labels in args.labels:
                shape = (args.utterances, args.frames, labels, vocabulary)
                seconds = measure(args.config, shape, args.repeats, args.precision)
                entry = {
                    "config": args.config.as_posix(),
                    "utterances": args.utterances,
                    "frames": args.frames,
                    "labels": labels,
                    "vocabulary": vocabulary,
                    "precision": args.precision,
                    "repeats": args.repeats,
                    "date": datetime.date.today().isoformat(),
                    "seconds": seconds,
                }
                add_measurement(args.out, entry)
                print(json.dumps(entry), flush=True)
    except ValueError as error:
        print(f"ERROR: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
