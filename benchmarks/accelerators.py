"""Accelerators on AN4: time of their steps, and a screening at equal time.

    python benchmarks/accelerators.py steps --output DIR                 # minutes of one core
    python benchmarks/accelerators.py screen --output DIR --an4_root AN4 [--seeds 1] [--arms ...]
    python benchmarks/accelerators.py table --output DIR

`steps` takes interleaved training steps of AN4's model with made-up batches, in processor time of
one thread, and writes each arm's time over the base's to DIR/steps.json. `screen` trains arm after
arm on one core, each for as many epochs of a stage as cost what the base's epochs cost there by
steps.json. Wall-clock of a shared machine has no part in it. It may be killed at any moment: the
same command goes on, and another one with other arms or seeds may run beside it.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import yaml
from filelock import FileLock, Timeout

from espnet_plugin.corpora.atomic import write_atomically
from espnet_plugin.pipeline.plan.config import deep_merge, load_pipeline_config

ROOT = Path(__file__).resolve().parents[1]
RECIPE = ROOT / "egs2" / "an4" / "asr1"
PIPELINE = RECIPE / "conf" / "train_progressive.yaml"
#: Half of the recipe's epochs, which the base arm trains.
EPOCHS = {"align": 20, "viterbi": 8, "full_sum": 24, "mbr": 1}
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


def epochs(arm: str, stage: str, steps: Mapping[str, Any]) -> int:
    """As many as cost what the base's cost.

    Raises:
        ValueError: the arm's steps were not timed.
    """
    if arm == "base" or stage not in ARMS[arm].stages:
        return EPOCHS[stage]
    try:
        ratio = steps[stage][arm]["ratio"]
    except KeyError as error:
        raise ValueError(f"{arm} in {stage} was not timed; run steps --arms {arm}") from error
    return max(1, round(EPOCHS[stage] / ratio))


def arm_config(arm: str, steps: Mapping[str, Any]) -> dict[str, Any]:
    """An arm's pipeline YAML."""
    stages = plain_stages()
    sections = {
        name: {
            **stage_options(ARMS[arm], name, stages[name]),
            "max_epoch": epochs(arm, name, steps),
        }
        for name in EPOCHS
    }
    return {"extends": str(PIPELINE), "train_stages": sections}


def screen(output: Path, arms: Sequence[str], seeds: Sequence[int], rest: Sequence[str]) -> None:
    """Train and score what has no result yet, one after the other.

    Raises:
        SystemExit: a training failed.
    """
    steps = json.loads((output / "steps.json").read_text(encoding="utf-8"))
    for seed in seeds:
        for arm in arms:
            tag = f"{arm}_s{seed}"
            config = output / "conf" / f"{arm}.yaml"
            write_atomically(config, yaml.safe_dump(arm_config(arm, steps), sort_keys=False))
            try:
                with FileLock(output / f".{tag}.lock", timeout=0):
                    if not (output / "exp" / tag / "RESULTS.md").exists():
                        _train(output, config, tag, seed, rest)
            except Timeout:
                print(f"{tag}: another process trains it", flush=True)


def _train(output: Path, config: Path, tag: str, seed: int, rest: Sequence[str]) -> None:
    command = ["./run.sh", "--expdir", str(output / "exp"), "--asr_tag", tag]
    command += ["--asr_config", str(config), "--asr_args", f"--seed {seed}"]
    command += ["--nj", "1", "--train_threads", "1", *rest]
    print(f"{tag}: {' '.join(command)}", flush=True)
    with (output / f"{tag}.log").open("ab") as log:
        done = subprocess.run(
            command, cwd=RECIPE, stdout=log, stderr=log, env={**os.environ, "OMP_NUM_THREADS": "1"}
        )
    if done.returncode:
        raise SystemExit(f"{tag} failed; see {output / f'{tag}.log'}")


def table(output: Path) -> str:
    """Markdown: error rates of each finished experiment's last stage."""
    lines = ["| arm | seed | WER dev | WER test | CER dev | CER test |", "| --- |" + " --- |" * 5]
    for path in sorted((output / "exp").glob("*_s*/RESULTS.md")):
        arm, _, seed = path.parent.name.rpartition("_s")
        rows = [line.strip("|").split("|") for line in path.read_text().splitlines()]
        rates: dict[str, list[str]] = {"train_dev": [], "test": []}
        for row in rows:  # the tables of words come first, then those of characters
            name, _, data = row[0].rpartition("/")
            if len(row) == 9 and data in rates and name.startswith("mbr"):
                rates[data].append(row[7])
        dev, test = rates["train_dev"], rates["test"]
        if len(dev) > 1 and len(test) > 1:
            cells = [arm, seed, dev[0], test[0], dev[1], test[1]]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("command", choices=("steps", "screen", "table"))
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--arms", nargs="+", choices=list(ARMS), default=list(ARMS))
    parser.add_argument("--stages", nargs="+", choices=TIMED, default=list(TIMED))
    parser.add_argument("--repeats", type=int, default=30)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    args, rest = parser.parse_known_args(arguments)
    output = args.output.resolve()
    output.mkdir(parents=True, exist_ok=True)
    if args.command == "steps":
        import torch

        torch.set_num_threads(1)
        found = time_steps(args.arms, args.stages, args.repeats)
        path = output / "steps.json"
        known = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        write_atomically(path, json.dumps(deep_merge(known, found), indent=1) + "\n")
        print(json.dumps(found, indent=1))
    elif args.command == "screen":
        screen(output, args.arms, args.seeds, rest)
    else:
        print(table(output))


if __name__ == "__main__":
    main()
