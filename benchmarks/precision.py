"""Training steps in bfloat16 over float32's, on one core: AN4's, the demo's, Mboshi's, the paper's.

    python benchmarks/precision.py [--models an4 paper] [--stages align full_sum] [--repeats 20]

Each model takes made-up batches in turn, as float32 without any accelerator, and in bfloat16 with
one accelerator after the other. Medians of processor time; the table's ratios are over float32's of
the same run. What else the machine does has little part in a ratio, and much in a time.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.accelerators import ROOT, MadeUp, interleaved, stages_of, step_of

FLOAT32 = "float32"
#: What is timed: the accelerators of a step.
ARMS: Mapping[str, Mapping[str, Any]] = {
    FLOAT32: {},
    "bfloat16": {"precision": {"autocast": "bfloat16"}},
    "with fast_dropout": {"precision": {"autocast": "bfloat16"}, "fast_dropout": {}},
    "with channels_last": {
        "precision": {"autocast": "bfloat16"},
        "fast_dropout": {},
        "channels_last": {},
    },
}
#: Recipe, pipeline and made-up batch: some 25 s of speech, 12 s for the paper's model.
MODELS: Mapping[str, tuple[str, str, MadeUp]] = {
    "an4": ("an4", "train_progressive.yaml", MadeUp()),
    "mini_tts": ("mini_tts", "train_progressive.yaml", MadeUp(8, 8 * 3120, 22, None, 22)),
    "mboshi": ("mboshi", "train_progressive.yaml", MadeUp(10, 16 * 3000, 20, None, 35)),
    "paper": ("librispeech", "train_progressive_paper.yaml", MadeUp(2, 160 * 600, 60, None, 81)),
}
STAGES = ("align", "viterbi", "full_sum")


def ratios(model: str, stage: str, repeats: int) -> tuple[float, dict[str, float]]:
    """Median seconds of a float32 step, and every arm's median over it."""
    recipe, pipeline, made_up = MODELS[model]
    folder = ROOT / "egs2" / recipe / "asr1"
    options = stages_of(folder / "conf" / pipeline, folder)[stage]
    steps = {
        name: step_of({**options, "accelerators": accelerators}, repeats, made_up)
        for name, accelerators in ARMS.items()
    }
    times = interleaved(steps, repeats)
    medians = {name: statistics.median(values) for name, values in times.items()}
    return medians[FLOAT32], {name: value / medians[FLOAT32] for name, value in medians.items()}


def main(arguments: Sequence[str] | None = None) -> None:
    """See the module's docstring."""
    import torch

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--models", nargs="+", choices=list(MODELS), default=list(MODELS))
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=list(STAGES))
    parser.add_argument("--repeats", type=int, default=20)
    args = parser.parse_args(arguments)
    torch.set_num_threads(1)
    arms = [name for name in ARMS if name != FLOAT32]
    print(f"| model | stage | float32, seconds | {' | '.join(arms)} |")
    print("|" + " --- |" * (3 + len(arms)))
    for model in args.models:
        for stage in args.stages:
            seconds, over = ratios(model, stage, args.repeats)
            cells = " | ".join(f"{over[name]:.2f}" for name in arms)
            print(f"| {model} | {stage} | {seconds:.3f} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
