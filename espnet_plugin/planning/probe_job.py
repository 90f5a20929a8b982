"""Running the probe: one child process builds and times all stages (`bin.step_probe`)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from espnet_plugin.corpora.atomic import write_atomically
from espnet_plugin.data.token_list import write_token_list
from espnet_plugin.pipeline.launch.commands import program, stage_config, submitted
from espnet_plugin.pipeline.launch.process import ChildFailed, start, wait_all
from espnet_plugin.pipeline.plan.options import RunOptions
from espnet_plugin.pipeline.plan.stage_plan import TrainStage
from espnet_plugin.planning.batches import epoch_batches
from espnet_plugin.planning.data_size import DataSize, of_stage, within_limit
from espnet_plugin.planning.estimate import stage_options
from espnet_plugin.planning.probe_result import Probe

#: Feature frames of a CPU's probe: a batch at full size would take minutes, and gigabytes.
CPU_FRAMES = 1200.0
_SPECIAL = 3  # blank, <unk>, <sos/eos>


def run_probe(
    stages: Sequence[TrainStage],
    train: DataSize,
    options: RunOptions,
    steps: int,
    folder: Path,
    show: Callable[[str], None],
) -> Probe:
    """Measure ``steps`` training steps of every stage on this machine's CPU or first GPU.

    With a job submission command (``cuda_cmd``) the probe runs where training would. A result
    for the very same configurations and batches is used again.

    Args:
        folder: for configurations, log and ``probe.json``.

    Raises:
        ValueError: the stages' options are impossible.
        ChildFailed: the probe ended with an error.
    """
    spec: dict[str, Any] = {
        "ngpu": min(1, options.ngpu),
        "steps": steps,
        "output": str(folder / "probe.json"),
        "stages": {
            stage.name: {
                "arguments": probe_arguments(stage, train, options, folder),
                "batch": probe_batch(stage, train, options),
            }
            for stage in stages
        },
    }
    configs = "".join((folder / f"{s.name}.yaml").read_text(encoding="utf-8") for s in stages)
    spec["configs"] = hashlib.sha256(configs.encode()).hexdigest()
    path, log = folder / "spec.json", folder / "probe.log"
    text = json.dumps(spec, indent=1) + "\n"
    if (folder / "probe.json").exists() and path.exists() and path.read_text() == text:
        return Probe.load(folder / "probe.json")  # measured before, and nothing changed
    (folder / "probe.json").unlink(missing_ok=True)
    write_atomically(path, text)
    log.unlink(missing_ok=True)
    names = ", ".join(stage.name for stage in stages)
    show(f"probing {steps} steps of {names} (log: {log})")
    _start(path, log, options)
    return Probe.load(folder / "probe.json")


def _start(spec: Path, log: Path, options: RunOptions) -> None:
    """Run the probe to its end, here or through the command that training goes through."""
    cmd = options.cuda_cmd
    if cmd != "local" and options.ngpu:
        cmd += " --gpu 1"
    command, console = submitted([*program(options, "step_probe"), str(spec)], cmd, log)
    threads = options.train_threads
    environment = {} if threads is None else {"OMP_NUM_THREADS": str(threads)}
    status = wait_all([start(command, console, environment)], lambda: None)[0]
    if status != 0:
        raise ChildFailed("probe of the training steps", status, log if log.exists() else console)


def probe_batch(
    stage: TrainStage, train: DataSize, options: RunOptions
) -> Mapping[str, int | float]:
    """The batch to probe: the stage's largest on a GPU, a small one on a CPU.

    All its utterances are of the mean length.
    """
    world = max(1, options.ngpu) * options.num_nodes
    given = stage_options(stage, options)
    train = within_limit(of_stage(stage, train, options, "train"), given, options)
    length = max(1, round(float(train.lengths.mean())))
    each = train.frames(length)
    if options.ngpu:
        wanted = epoch_batches(train, given, world).largest_frames / world
    else:
        wanted = CPU_FRAMES
    utterances = max(1, round(wanted / each))
    return {
        "utterances": utterances,
        "length": length,
        "labels": max(1, round(float(train.labels.mean()))),
        "frames": utterances * each,
    }


def probe_arguments(
    stage: TrainStage, train: DataSize, options: RunOptions, folder: Path
) -> list[str]:
    """`asr_train` arguments that build the stage's model, whatever data there is yet."""
    config: dict[str, Any] = stage_config(stage, options, {})
    stats = (config.get("normalize_conf") or {}).get("stats_file")
    if stats is not None and not Path(stats).is_file():
        config.update({"normalize": None, "normalize_conf": {}})
    path = folder / f"{stage.name}.yaml"
    write_atomically(path, yaml.safe_dump(config, sort_keys=False, allow_unicode=True))
    tokens = Path(options.text_options.get("token_list", ""))
    if not tokens.is_file():
        tokens = folder / "tokens.txt"
        write_token_list(tokens, [f"label{n}" for n in range(max(1, train.vocabulary - _SPECIAL))])
    return [
        *("--config", str(path), "--output_dir", str(folder)),
        *("--token_list", str(tokens), "--token_type", "word"),
        *options.arguments_of(stage.name),
    ]
