"""Accelerators on AN4: time of their steps, and a screening at equal time.

    python benchmarks/accelerators.py steps --output DIR [--arms ...]    # minutes of one core
    python benchmarks/accelerators.py study --output DIR [--arms ...] [--budget 0.25] [--seeds 1]
    python benchmarks/study/run.py --config DIR/study.yaml --corpus an4=an4_mfcc.tar.gz
    python benchmarks/study/run.py --config DIR/study.yaml --page   # RESULTS_accelerators.md

`steps` takes interleaved training steps of AN4's model with made-up batches, in processor time of
one thread, and writes each arm's time over the base's to DIR/steps.json. `study` writes what the
study's driver trains, one core an arm, resumable: as many epochs as cost, by steps.json, what that
share of the recipe's epochs costs, or by accelerator_steps.json, of which the results are that are
kept here. Wall-clock of a shared machine has no part in it. The arms are in accelerator_arms.py.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import yaml

from benchmarks.accelerator_arms import (
    ARMS,
    BASE,
    LIKE,
    TIMED,
    Arm,
    arm_options,
    changed_stages,
    epochs,
    planned,
)
from benchmarks.study.configuration import ANY_ALIGNMENT
from espnet_plugin.corpora.atomic import write_atomically
from espnet_plugin.pipeline.plan.config import deep_merge, load_pipeline_config, read_yaml

ROOT = Path(__file__).resolve().parents[1]
RECIPE = ROOT / "egs2" / "an4" / "asr1"
PIPELINE = RECIPE / "conf" / "train_progressive.yaml"
STUDY = ROOT / "benchmarks" / "study" / "study.yaml"
RESULTS = "benchmarks/study/results_accelerators"
BASE_SEEDS = [1, 2, 3]
#: Times of steps from which the kept results have their epochs.
STEPS = ROOT / "benchmarks" / "accelerator_steps.json"
#: Of all arms: the recipe's stretch in steps of a few frames, so that a CPU's kernels are kept
#: (docs/accuracy.md).
FASTER = {"base": {"specaug_conf": {"stretch_multiple": 16}}}


def plain_stages() -> Mapping[str, Mapping[str, Any]]:
    """The stages of AN4's pipeline, whose paths are the recipe's."""
    return stages_of(PIPELINE)


def arm_stages(arm: Arm, folder: Path) -> Mapping[str, Mapping[str, Any]]:
    """All options of an arm's stages.

    Args:
        folder: takes its YAML, and codes where a teacher's are wanted.
    """
    options = arm_options(arm, plain_stages())
    if arm.codes:
        about = {"subsampling": 4, "books": arm.codes["books"], "codes": arm.codes["codes"]}
        (folder / "codes.json").write_text(json.dumps(about))
        (folder / "codes").write_text(f"none {'00' * arm.codes['books']}\n")
        taught = {"accelerators": {"repa": {"codes": str(folder)}}}
        options = {name: deep_merge(section, taught) for name, section in options.items()}
    path = folder / "arm.yaml"
    path.write_text(yaml.safe_dump({"extends": str(PIPELINE), "train_stages": options}))
    return stages_of(path)


def stages_of(path: Path, recipe: Path = RECIPE) -> Mapping[str, Mapping[str, Any]]:
    """All options of a pipeline's stages; its paths are the recipe's."""
    with contextlib.chdir(recipe):
        return load_pipeline_config(path).train_stages


# ---- time of steps ---------------------------------------------------------------------------


@dataclass(frozen=True)
class MadeUp:
    """Sizes of a made-up batch; those of AN4's recipe.

    Attributes:
        utterances: B.
        length: of each, in feature frames, or in samples where there is no `channels`.
        labels: S of each.
        channels: of a feature frame; None: audio.
        vocabulary: with blank and ESPnet's two special symbols.
    """

    utterances: int = 8
    length: int = 312
    labels: int = 22
    channels: int | None = 26
    vocabulary: int = 30


def step_of(
    options: Mapping[str, Any], repeats: int, made_up: MadeUp | None = None
) -> Callable[[int], float]:
    """A model with its optimizer; the function takes a step and returns its processor time."""
    import torch

    from espnet_plugin.nn.accelerators import Progress
    from espnet_plugin.tasks.progressive import ProgressiveASRTask
    from espnet_plugin.tasks.step_probe import ProbeBatch, random_batch

    sizes = made_up or MadeUp()
    names = [f"label{number}" for number in range(sizes.vocabulary - 3)]
    tokens = ["<blank>", "<unk>", *names, "<sos/eos>"]
    given = {**options, "token_list": tokens, "input_size": sizes.channels, "normalize": None}
    args = argparse.Namespace(**{**ProgressiveASRTask.get_default_config(), **given})
    torch.manual_seed(0)
    model = ProgressiveASRTask.build_model(args)
    (optimizer,) = ProgressiveASRTask.build_optimizers(args, model)
    total = sizes.utterances * sizes.length
    probe = ProbeBatch(sizes.utterances, sizes.length, sizes.labels, total)
    batch = random_batch(model, args, probe, torch.device("cpu"))

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


def entries(arms: Sequence[str], stage: str, folder: Path) -> dict[str, Mapping[str, Any]]:
    """What is timed in a stage: arms that change it, and with align the stages before it.

    Args:
        folder: for files that a step reads.
    """
    found: dict[str, Mapping[str, Any]] = {}
    for name in dict.fromkeys([BASE, *arms, *(LIKE[name] for name in arms if name in LIKE)]):
        arm = ARMS[name]
        (folder / name).mkdir(exist_ok=True)
        stages = arm_stages(arm, folder / name)
        if name not in LIKE and (name == BASE or stage in changed_stages(arm)):
            found[name] = stages[stage]
        if arm.first is not None and f"{name}/{arm.first[0]}" not in LIKE and stage == "align":
            found[f"{name}/{arm.first[0]}"] = stages[arm.first[0]]
    return found


def interleaved(
    steps: Mapping[str, Callable[[int], float]], repeats: int
) -> dict[str, list[float]]:
    """Each one's times, in turn, after a step that builds kernels."""
    for step in steps.values():
        step(0)
    times: dict[str, list[float]] = {name: [] for name in steps}
    for number in range(repeats):
        for name, step in steps.items():
            times[name].append(step(number))
    return times


def time_steps(arms: Sequence[str], stages: Sequence[str], repeats: int) -> dict[str, Any]:
    """Stage -> entry -> mean time over the base's, its standard error, and seconds of a step."""
    found: dict[str, Any] = {}
    for stage in stages:
        with tempfile.TemporaryDirectory() as folder:
            timed = entries(arms, stage, Path(folder))
            steps = {entry: step_of(options, repeats) for entry, options in timed.items()}
            times = interleaved(steps, repeats)
        base = statistics.fmean(times[BASE])
        found[stage] = {
            entry: {
                "ratio": statistics.fmean(values) / base,
                "error": statistics.stdev(values) / len(values) ** 0.5 / base,
                "seconds": statistics.fmean(values),
            }
            for entry, values in times.items()
        }
    return found


# ---- screening -------------------------------------------------------------------------------


def study_of(
    output: Path, steps: Mapping[str, Any], arms: Sequence[str], seeds: Sequence[int], budget: float
) -> dict[str, Any]:
    """A study.yaml of benchmarks/study/run.py; its page is RESULTS_accelerators.md."""
    study, plain = read_yaml(STUDY), plain_stages()
    full = {name: int(options["max_epoch"]) for name, options in plain.items()}
    sections, told = {}, {}
    for name in dict.fromkeys([BASE, *arms]):
        arm = ARMS[name]
        counts = epochs(name, steps, full, budget)
        sections[name] = {
            "config": str(PIPELINE.relative_to(RECIPE)),
            **({"stages": planned(arm, plain)} if arm.first else {}),
            **({"codes": dict(arm.codes)} if arm.codes else {}),
            # a budget scales them back
            "epochs": {stage: count / budget for stage, count in counts.items()},
            "change": {
                "train_stages": arm_options(arm, plain),
                **({"alignment": ANY_ALIGNMENT} if arm.any_alignment else {}),
            },
        }
        ratios = [steps[stage][LIKE.get(name, name)]["ratio"] for stage in changed_stages(arm)]
        step = {"step": round(statistics.fmean(ratios), 2)} if ratios else {}
        told[name] = {"what": arm.what, "control": list(arm.control), **step}
    place = {"corpora": ["an4"], "labels": ["char"], "sizes": ["2M"], "budgets": [budget]}
    # how far seeds of one arm scatter is what a difference has to pass
    several = {"seeds": BASE_SEEDS, "arms": [BASE]}
    return {
        "work": str(output / "work"),
        "seeds": list(seeds),
        "page": "benchmarks/RESULTS_accelerators.md",
        "figure": "docs/figures/accelerators",
        "results": RESULTS,
        **{key: study[key] for key in ("training_code", "sizes")},
        "corpora": {"an4": {**study["corpora"]["an4"], "epochs": {}, "change": FASTER}},
        "arms": sections,
        "grid": [{**place, "arms": list(sections)}, {**place, **several}],
        "screening": {"title": "accelerators on AN4", "base": BASE, "arms": told},
    }


def read_steps(path: Path) -> dict[str, Any]:
    """Times of steps."""
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("command", choices=("steps", "study"))
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--arms", nargs="+", choices=list(ARMS), default=list(ARMS))
    parser.add_argument("--stages", nargs="+", choices=TIMED, default=list(TIMED))
    parser.add_argument("--repeats", type=int, default=30)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    parser.add_argument("--budget", type=float, default=0.5, help="share of the epochs (0.5)")
    args = parser.parse_args(arguments)
    if not 0 < args.budget <= 1:
        parser.error(f"--budget {args.budget}: a share of the recipe's epochs, above 0")
    output = args.output.resolve()
    output.mkdir(parents=True, exist_ok=True)
    path = output / "steps.json"
    known = read_steps(path) if path.exists() else {}
    if args.command == "steps":
        import torch

        torch.set_num_threads(1)
        found = time_steps(args.arms, args.stages, args.repeats)
        write_atomically(path, json.dumps(deep_merge(known, found), indent=1) + "\n")
        print(json.dumps(found, indent=1))
        return
    study = study_of(output, known or read_steps(STEPS), args.arms, args.seeds, args.budget)
    write_atomically(output / "study.yaml", yaml.safe_dump(study, sort_keys=False))
    print(f"{output / 'study.yaml'}: for benchmarks/study/run.py --config")


if __name__ == "__main__":
    main()
