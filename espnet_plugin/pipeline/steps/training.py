"""Running one train stage: configuration, budget, the ESPnet process, its progress."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from espnet_plugin.corpora.atomic import write_atomically
from espnet_plugin.pipeline.launch.commands import launched, stage_config, train_command
from espnet_plugin.pipeline.launch.process import ChildFailed, start, wait_all
from espnet_plugin.pipeline.plan.budget import (
    epoch_seconds_from_probe,
    epochs_for_hours,
    epochs_for_steps,
    iterations_of_epoch,
    with_arguments,
)
from espnet_plugin.pipeline.plan.options import RunOptions
from espnet_plugin.pipeline.plan.stage_plan import TrainStage
from espnet_plugin.pipeline.state.progress import (
    LogTail,
    clock,
    ended_without_gradients,
    epoch_line,
)
from espnet_plugin.pipeline.state.reference_system import (
    PROCESSOR_FILE,
    REFERENCE_SECONDS,
    measurement_stamp,
    read_processor_time,
    read_reference_step,
)
from espnet_plugin.pipeline.state.state import StepState


@dataclass(frozen=True)
class StageRun:
    """Everything that one training run needs.

    Attributes:
        data: folder with the alignment or N-best lists, or None.
        init: ESPnet's ``--init_param``, or None.
        tick: called a few times a second.
        show: takes console lines.
        labels: folder of the alignment that chose the pronunciations, or None.
        aligner: the model that aligned the data, for what a stream brings, or None.
        prior_scale: with which the label prior in `data` divided its posteriors.
    """

    stage: TrainStage
    options: RunOptions
    data: Path | None
    init: str | None
    tick: Callable[[], None]
    show: Callable[[str], None]
    labels: Path | None = None
    aligner: Path | None = None
    prior_scale: float = 0.0

    @property
    def folder(self) -> Path:
        return self.options.exp / self.stage.name

    @property
    def given(self) -> dict[str, Any]:
        """The stage's options, those of ``--asr_args`` and ``--<stage>_args`` on top."""
        return with_arguments(self.stage.options, self.options.arguments_of(self.stage.name))


def write_stage_config(
    stage: TrainStage, options: RunOptions, fixed: Mapping[str, int | None]
) -> Path:
    """Write ``<exp>/conf/<stage>.yaml``, what ``--config`` of the stage's training reads."""
    path = options.exp / "conf" / f"{stage.name}.yaml"
    config = stage_config(stage, options, fixed)
    write_atomically(path, yaml.safe_dump(config, sort_keys=False, allow_unicode=True))
    return path


def fix_budget(run: StageRun, state: StepState) -> dict[str, int | None]:
    """Turn the stage's budget into epochs, once; later attempts reuse what ``state`` keeps.

    Raises:
        ValueError: the budget cannot be expressed in epochs.
        ChildFailed: the probe of a budget in hours failed.
    """
    stage, budget = run.stage, run.stage.budget
    if state.max_epoch is None:
        if budget.max_steps is not None:
            fixed = epochs_for_steps(budget.max_steps, run.given, stage.name)
            state.max_epoch = fixed["max_epoch"]
            state.num_iters_per_epoch = fixed["num_iters_per_epoch"]
        elif budget.hours is not None or budget.reference_hours is not None:
            state.max_epoch = _probe(run)
    return {"max_epoch": state.max_epoch, "num_iters_per_epoch": state.num_iters_per_epoch}


def train(run: StageRun, state: StepState, save: Callable[[], None]) -> None:
    """Train the stage to its end.

    Args:
        state: of this step; a budget's result is put into it.
        save: writes the pipeline's state.

    Raises:
        ChildFailed: ESPnet ended with an error.
        ValueError: training diverged or left no checkpoint.
    """
    fixed = fix_budget(run, state)
    save()
    config = write_stage_config(run.stage, run.options, fixed)
    log = run.folder / "train.log"
    tail = LogTail.at_end(log)
    begun, before, earlier = time.monotonic(), state.seconds, measurement_stamp(run.folder)
    worked = measurement_stamp(run.folder, PROCESSOR_FILE)

    def keep_processor_time() -> None:
        if state.spans and (seconds := read_processor_time(run.folder, worked)) is not None:
            state.spans[-1]["processor_seconds"] = seconds

    def on_tick() -> None:
        run.tick()
        if state.spans and state.spans[-1]["reference_step_seconds"] is None:
            measured = read_reference_step(run.folder, earlier)
            state.spans[-1]["reference_step_seconds"] = measured
        for result in tail.read():
            elapsed = before + time.monotonic() - begun
            run.show(epoch_line(run.stage.name, result, tail, elapsed))
            keep_processor_time()

    command = _command(run, config, run.folder)
    try:
        _run(run, launched(command, run.options, log), log, on_tick)
    finally:
        keep_processor_time()
    if log.exists() and ended_without_gradients(log):
        raise ValueError(
            f"stage {run.stage.name}: all gradients of an epoch were invalid (infinite or NaN) and "
            f"ESPnet gave up; see {log}; a lower learning rate or a longer warm-up usually helps"
        )
    product = run.folder / run.stage.checkpoint
    if not product.exists():
        raise ValueError(
            f"stage {run.stage.name}: training ended without {product}; its checkpoint: option "
            "must name a file ESPnet writes (see best_model_criterion)"
        )


def _command(run: StageRun, config: Path, folder: Path) -> list[str]:
    command = train_command(run.stage, run.options, config, folder, run.data, run.init, run.labels)
    if run.aligner is None or run.data is None:
        return command
    align: dict[str, Any] = {"model": run.aligner}
    if run.prior_scale:
        align |= {"prior": run.data / "prior", "prior_scale": run.prior_scale}
    return [*command, *(t for k, v in align.items() for t in ("--stream", f"align.{k}={v}"))]


def _run(run: StageRun, command: list[str], log: Path, tick: Callable[[], None]) -> None:
    threads = run.options.train_threads
    environment = {} if threads is None else {"OMP_NUM_THREADS": str(threads)}
    # Where a launcher runs the training, it writes train.log itself.
    console = log if run.options.cuda_cmd == "local" else log.with_name("launch.log")
    status = wait_all([start(command, console, environment)], tick)[0]
    if status != 0:
        raise ChildFailed(f"stage {run.stage.name}", status, log if log.exists() else console)


def _probe(run: StageRun) -> int:
    """Time the stage's beginning in a scratch folder; returns the epochs that fit the budget.

    Raises:
        ValueError: nothing tells the length of an epoch, or what reference hours are here.
        ChildFailed: ESPnet ended with an error.
    """
    import torch  # only here: reading the probe's times

    budget = run.stage.budget
    folder = run.options.exp / "probe" / run.stage.name
    fixed = {"max_epoch": 1, "num_iters_per_epoch": budget.probe_iters}
    config = write_stage_config(run.stage, run.options, fixed)
    log = folder / "train.log"
    tail = LogTail.at_end(log)
    command = _command(run, config, folder)
    # Last, so that it also wins over the stage's own arguments.
    command += ["--max_epoch", "1", "--resume", "false"]
    if budget.probe_iters is not None:
        command += ["--num_iters_per_epoch", str(budget.probe_iters)]
    begun = time.monotonic()
    run.show(f"{run.stage.name:<10} probing how long an epoch takes")
    _run(run, launched(command, run.options, log), log, run.tick)
    wall = time.monotonic() - begun
    tail.read()
    stats = torch.load(folder / "checkpoint.pth", map_location="cpu", weights_only=True)
    parts = stats["reporter"]["stats"][1]
    train_time, valid_time = (_seconds(parts[k]["time"]) for k in ("train", "valid"))
    probed, batches = _iterations(run, tail)
    each = epoch_seconds_from_probe(train_time, valid_time, probed, batches)
    # Starting costs once more what the probe spent outside its epoch.
    hours = _hours_here(run, folder)
    epochs = epochs_for_hours(hours, each, 2 * wall - train_time - valid_time)
    run.show(f"{run.stage.name:<10} {clock(each)} an epoch: max_epoch {epochs}")
    return epochs


def _iterations(run: StageRun, tail: LogTail) -> tuple[int, int]:
    """How many iterations were probed, and how many an epoch has.

    Raises:
        ValueError: neither the options nor the probe's log tell the second.
    """
    probed, whole = run.stage.budget.probe_iters, iterations_of_epoch(run.given) or tail.batches
    if probed is None:
        return 1, 1  # the epoch itself, however long
    if whole is None:
        raise ValueError(
            f"{tail.path}: the probe's log does not tell how many batches an epoch has, and so not "
            f"how many fit into the budget of stage {run.stage.name}; set num_iters_per_epoch, or "
            "leave out probe_iters to time a whole epoch"
        )
    return probed, whole


def _hours_here(run: StageRun, folder: Path) -> float:
    """The wall-clock budget of the stage on this machine, as the probe in ``folder`` found it."""
    budget = run.stage.budget
    if budget.hours is not None:
        return budget.hours
    assert budget.reference_hours is not None
    step = read_reference_step(folder)
    if step is None:
        raise ValueError(
            f"{folder}: the probe left no reference step, without which reference_hours "
            f"{budget.reference_hours} means nothing here; give hours or max_epoch instead"
        )
    hours = budget.reference_hours * step / REFERENCE_SECONDS
    run.show(
        f"{run.stage.name:<10} reference_hours {budget.reference_hours:g}: {hours:.2g} hours here"
    )
    return hours


def _seconds(value: Any) -> float:
    return float(value["__timedelta_seconds__"] if isinstance(value, dict) else value)
