"""Accelerators on AN4: time of their steps, and a screening at equal time.

    python benchmarks/accelerators.py steps --output DIR [--arms ...]    # minutes of one core
    python benchmarks/accelerators.py study --output DIR [--arms ...] [--seeds 1]
    python benchmarks/study/run.py --config DIR/study.yaml --corpus an4=an4_mfcc.tar.gz

`steps` takes interleaved training steps of AN4's model with made-up batches, in processor time of
one thread, and writes each arm's time over the base's to DIR/steps.json. `study` writes what the
study's driver trains, one core an arm, resumable: each stage for as many epochs as cost what half
of the recipe's epochs cost by steps.json. Wall-clock of a shared machine has no part in it.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import yaml

from espnet_plugin.corpora.atomic import write_atomically
from espnet_plugin.pipeline.plan.config import deep_merge, load_pipeline_config, read_yaml

ROOT = Path(__file__).resolve().parents[1]
RECIPE = ROOT / "egs2" / "an4" / "asr1"
PIPELINE = RECIPE / "conf" / "train_progressive.yaml"
STUDY = ROOT / "benchmarks" / "study" / "study.yaml"
TIMED = ("align", "viterbi", "full_sum")


@dataclass(frozen=True)
class Arm:
    """One way to train.

    Attributes:
        changes: of a stage's options.
        stages: that they apply to.
        rates: factor of the learning rates there.
    """

    changes: Mapping[str, Any] = field(default_factory=dict)
    stages: tuple[str, ...] = TIMED
    rates: float = 1.0


def _one(name: str, stages: tuple[str, ...] = TIMED, **options: Any) -> Arm:
    return Arm({"accelerators": {name: options}}, stages)


_BEFORE_FULL_SUM = ("align", "viterbi")
ARMS: Mapping[str, Arm] = {
    "base": Arm(),
    "float32": Arm({"accelerators": {"precision": None}}),
    "layer_drop": _one("layer_drop", _BEFORE_FULL_SUM, theta=0.5),
    "layer_drop_75": _one("layer_drop", _BEFORE_FULL_SUM, theta=0.75),
    "layer_drop_rescale": _one("layer_drop", _BEFORE_FULL_SUM, theta=0.5, rescale=True),
    "rep_conv": _one("rep_conv"),
    "rep_conv_fixed": _one("rep_conv", train_scale=False),
    "selective": _one("selective"),
    "sparse": _one("sparse", sparsity=0.8, every=50),
    "sparse_all": _one("sparse", sparsity=0.8, every=50, explore="all"),
    "sparse_static": _one("sparse", sparsity=0.8, explore="none"),
    "thin": Arm({"encoder_conf": {"linear_units": 128}}),  # the control of sparse
    "lion": Arm({"optim": "lion", "optim_conf": {"weight_decay": 0.1}}, rates=0.2),
    "lion_slower": Arm({"optim": "lion", "optim_conf": {"weight_decay": 0.1}}, rates=0.1),
}


def plain_stages() -> Mapping[str, Mapping[str, Any]]:
    """The stages of AN4's pipeline, whose paths are the recipe's."""
    with contextlib.chdir(RECIPE):
        return load_pipeline_config(PIPELINE).train_stages


def stage_options(arm: Arm, name: str, stage: Mapping[str, Any]) -> dict[str, Any]:
    """What an arm's YAML says of a stage of AN4's pipeline, besides its epochs."""
    if name not in arm.stages:
        # a model has one size, whatever the stage
        return {k: v for k, v in arm.changes.items() if k == "encoder_conf"}
    changed = dict(arm.changes)
    if arm.rates != 1.0:
        rates = stage["scheduler_conf"]
        changed["scheduler_conf"] = {
            key: arm.rates * value for key, value in rates.items() if key.endswith("_lr")
        }
    return changed


# ---- time of steps ---------------------------------------------------------------------------


def step_of(options: Mapping[str, Any], repeats: int) -> Callable[[int], float]:
    """A model with its optimizer; the function takes a step and returns its processor time."""
    import torch

    from espnet_plugin.nn.accelerators import Progress
    from espnet_plugin.tasks.progressive import ProgressiveASRTask
    from espnet_plugin.tasks.step_probe import ProbeBatch, random_batch

    tokens = ["<blank>", "<unk>", "<space>", *"abcdefghijklmnopqrstuvwxyz", "<sos/eos>"]
    given = {**options, "token_list": tokens, "input_size": 26, "normalize": None}
    args = argparse.Namespace(**{**ProgressiveASRTask.get_default_config(), **given})
    torch.manual_seed(0)
    model = ProgressiveASRTask.build_model(args)
    (optimizer,) = ProgressiveASRTask.build_optimizers(args, model)
    batch = random_batch(model, args, ProbeBatch(8, 312, 22, 8 * 312), torch.device("cpu"))

    def step(number: int) -> float:
        model.train()
        begun = time.process_time()
        # the middle of a stage, where schedules have come to their values
        model.accelerators.before_batch(Progress(2, number, repeats, 3))
        optimizer.zero_grad()
        model(**batch)[0].backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
        return time.process_time() - begun

    return step


def time_steps(arms: Sequence[str], stages: Sequence[str], repeats: int) -> dict[str, Any]:
    """Stage -> arm -> mean time over the base's, its standard error, and seconds of a step."""
    found: dict[str, Any] = {}
    config = plain_stages()
    for stage in stages:
        steps = {}
        for arm in dict.fromkeys(["base", *arms]):
            if arm == "base" or stage in ARMS[arm].stages:
                options = deep_merge(config[stage], stage_options(ARMS[arm], stage, config[stage]))
                steps[arm] = step_of(options, repeats)
                steps[arm](0)
        times: dict[str, list[float]] = {arm: [] for arm in steps}
        for number in range(repeats):
            for arm, step in steps.items():
                times[arm].append(step(number))
        base = statistics.fmean(times["base"])
        found[stage] = {
            arm: {
                "ratio": statistics.fmean(values) / base,
                "error": statistics.stdev(values) / len(values) ** 0.5 / base,
                "seconds": statistics.fmean(values),
            }
            for arm, values in times.items()
        }
    return found


# ---- screening -------------------------------------------------------------------------------


def epochs(arm: str, steps: Mapping[str, Any]) -> dict[str, int]:
    """Of each stage, as many as cost what the recipe's cost.

    Raises:
        ValueError: the arm's steps were not timed.
    """
    found = {name: int(options["max_epoch"]) for name, options in plain_stages().items()}
    for stage in ARMS[arm].stages if arm != "base" else ():
        try:
            ratio = steps[stage][arm]["ratio"]
        except KeyError as error:
            raise ValueError(f"{arm} in {stage} was not timed; run steps --arms {arm}") from error
        found[stage] = max(1, round(found[stage] / ratio))
    return found


def study_of(
    output: Path, steps: Mapping[str, Any], arms: Sequence[str], seeds: Sequence[int]
) -> dict[str, Any]:
    """A study.yaml of benchmarks/study/run.py: half of the recipe's epochs, or their time."""
    study = read_yaml(STUDY)
    plain = plain_stages()
    sections = {
        arm: {
            "config": str(PIPELINE.relative_to(RECIPE)),
            "epochs": epochs(arm, steps),
            "change": {
                "train_stages": {
                    name: stage_options(ARMS[arm], name, options) for name, options in plain.items()
                }
            },
        }
        for arm in arms
    }
    grid = {"corpora": ["an4"], "labels": ["char"], "sizes": ["2M"], "budgets": [0.5]}
    return {
        "work": str(output / "work"),
        "seeds": list(seeds),
        "page": str(output / "RESULTS.md"),
        "figure": str(output / "figure"),
        **{key: study[key] for key in ("training_code", "sizes")},
        "corpora": {"an4": {**study["corpora"]["an4"], "epochs": {}}},
        "arms": sections,
        "grid": [{**grid, "arms": list(arms)}],
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("command", choices=("steps", "study"))
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--arms", nargs="+", choices=list(ARMS), default=list(ARMS))
    parser.add_argument("--stages", nargs="+", choices=TIMED, default=list(TIMED))
    parser.add_argument("--repeats", type=int, default=30)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    args = parser.parse_args(arguments)
    output = args.output.resolve()
    path = output / "steps.json"
    known = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    if args.command == "steps":
        import torch

        torch.set_num_threads(1)
        found = time_steps(args.arms, args.stages, args.repeats)
        write_atomically(path, json.dumps(deep_merge(known, found), indent=1) + "\n")
        print(json.dumps(found, indent=1))
        return
    study = study_of(output, known, args.arms, args.seeds)
    write_atomically(output / "study.yaml", yaml.safe_dump(study, sort_keys=False))
    print(f"{output / 'study.yaml'}: for benchmarks/study/run.py --config")


if __name__ == "__main__":
    main()
