"""From a plan, the size of the data and a probe to steps, time and memory of every train stage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from espnet_plugin.pipeline.plan.budget import epochs_for_steps, with_arguments
from espnet_plugin.pipeline.plan.options import RunOptions
from espnet_plugin.pipeline.plan.stage_plan import TrainStage
from espnet_plugin.pipeline.state.reference_system import REFERENCE_SECONDS
from espnet_plugin.planning.batches import Batches, epoch_batches
from espnet_plugin.planning.data_size import FRAMES_PER_SECOND, DataSize, of_stage, within_limit
from espnet_plugin.planning.devices import LAUNCH_SECONDS, DeviceClass, precision
from espnet_plugin.planning.probe_result import Probe, StageProbe

#: The forward pass's part of forward and backward (which has two products for each of its).
FORWARD_SHARE = 1 / 3
#: A batch this close to the probed one counts as the same.
_SAME_SIZE = 1.05
_DEFAULT_EPOCHS = 40  # ESPnet's max_epoch


@dataclass(frozen=True)
class StageEstimate:
    """What one train stage comes to.

    Attributes:
        epochs: None where a wall-clock budget decides.
        batches: of an epoch.
        updates: optimizer steps in all.
        speech_hours: speech that goes through the model, all epochs together.
        seconds: on the probed device; None without a probe. A budget in hours is just that.
        memory_bytes: at the largest batch, of one device; None without a probe.
        scaled: the probe's batch was smaller than those of the stage.
        flops: operations in all; None without a probe.
        launches: dispatches in all, each of which costs a GPU some time.
        precision: of the matrix products: fp32, tf32 or bf16.
        error: what the probe ran into.
    """

    name: str
    loss: str
    epochs: int | None
    batches: Batches
    updates: int | None
    speech_hours: float | None
    seconds: float | None
    memory_bytes: float | None
    scaled: bool
    flops: float | None
    launches: float
    precision: str
    error: str | None = None


def stage_options(stage: TrainStage, options: RunOptions) -> dict[str, Any]:
    """The stage's options, those of the command line on top, as far as they concern the plan."""
    merged = with_arguments(stage.options, options.arguments_of(stage.name))
    for name in ("use_amp", "use_tf32"):
        if isinstance(merged.get(name), str):
            merged[name] = merged[name].lower() == "true"
    return merged


def estimate_stage(
    stage: TrainStage, train: DataSize, valid: DataSize, options: RunOptions, probe: Probe | None
) -> StageEstimate:
    """Steps, time and memory of one stage.

    Raises:
        ValueError: the budget of the stage cannot be told.
    """
    given = stage_options(stage, options)
    train = within_limit(of_stage(stage, train, options, "train"), given, options)
    valid = of_stage(stage, valid, options, "valid")
    world = max(1, options.ngpu) * options.num_nodes
    epochs: int | None = int(given.get("max_epoch") or _DEFAULT_EPOCHS)
    if stage.budget.max_steps is not None:
        given.update(epochs_for_steps(stage.budget.max_steps, given, stage.name))
        epochs = int(given["max_epoch"])
    elif stage.budget.hours is not None or stage.budget.reference_hours is not None:
        epochs = None
    batches = epoch_batches(train, given, world if world > 1 else 1)
    accum = int(given.get("accum_grad") or 1)
    updates = None if epochs is None else epochs * max(1, batches.count // accum)
    frames = None if epochs is None else epochs * batches.count * batches.mean_frames
    measured = None if probe is None else probe.stages.get(stage.name)
    failed = measured is not None and measured.error is not None
    seconds = _budget_seconds(stage, probe)
    memory, flops, launches, scaled = None, None, 0.0, False
    if measured is not None and not failed:
        memory = _memory(measured, batches, world)
        scaled = batches.largest_frames > _SAME_SIZE * measured.frames
        if frames is not None and updates is not None and epochs is not None:
            work = frames + FORWARD_SHARE * epochs * valid.frames(float(valid.lengths.sum()))
            flops = measured.flops / measured.frames * work
            launches = float(epochs * batches.count * _launches(probe))
            seconds = (
                measured.seconds / measured.frames * work / world
                + updates * measured.optimizer_seconds
            )
    return StageEstimate(
        name=stage.name,
        loss=stage.loss,
        epochs=epochs,
        batches=batches,
        updates=updates,
        speech_hours=None if frames is None else frames / FRAMES_PER_SECOND / 3600,
        seconds=seconds,
        memory_bytes=memory,
        scaled=scaled,
        flops=flops,
        launches=launches,
        precision=precision(given),
        error=measured.error if measured is not None else None,
    )


def _budget_seconds(stage: TrainStage, probe: Probe | None) -> float | None:
    """Wall-clock that the stage may take here, where its budget is one of time."""
    budget = stage.budget
    if budget.hours is not None:
        return budget.hours * 3600
    if budget.reference_hours is None or probe is None:
        return None
    return budget.reference_hours * 3600 * probe.reference_seconds / REFERENCE_SECONDS


def _launches(probe: Probe | None) -> int:
    """Dispatches of a step: the fewest of all stages.

    On a CPU losses loop over frames; on a GPU those loops are single kernels.
    """
    found = [] if probe is None else [s.launches for s in probe.stages.values() if not s.error]
    return min(found, default=0)


def _memory(measured: StageProbe, batches: Batches, world: int) -> float:
    """Memory of one device at the largest batch, its activations scaled with the frames."""
    ratio = batches.largest_frames / world / measured.frames
    if measured.peak_bytes is not None:
        # on a GPU: everything that was allocated, without the allocator's slack
        return measured.state_bytes + (measured.peak_bytes - measured.state_bytes) * ratio
    return measured.state_bytes + measured.activation_bytes * ratio


def estimate_plan(
    stages: Sequence[TrainStage],
    train: DataSize,
    valid: DataSize,
    options: RunOptions,
    probe: Probe | None,
) -> list[StageEstimate]:
    """One estimate per stage, in the plan's order."""
    return [estimate_stage(stage, train, valid, options, probe) for stage in stages]


def seconds_on(
    device: DeviceClass, estimate: StageEstimate, utilisation: float | None = None
) -> float | None:
    """Time of a stage on another device: of its products, or of launching all its kernels.

    None without a probe.

    Args:
        utilisation: share of the peak rate; None: see `DeviceClass.sustained`.
    """
    if estimate.flops is None:
        return None
    products = estimate.flops / device.sustained(estimate.precision, utilisation)
    return max(products, estimate.launches * LAUNCH_SECONDS)


def encoder_pass_seconds(train: DataSize, probe: Probe, world: int = 1) -> float | None:
    """Time of one pass of the training data through the encoder, as jobs between stages make it.

    None where the probe measured no stage that trains on whole utterances.
    """
    for stage in ("align", "full_sum"):
        measured = probe.stages.get(stage)
        if measured is not None and measured.error is None:
            frames = train.frames(float(train.lengths.sum()))
            return FORWARD_SHARE * measured.seconds / measured.frames * frames / world
    return None


def reached(probe: Probe) -> Mapping[str, float]:
    """Stage -> share of the device's own rate of matrix products that its steps reached."""
    return {
        name: stage.flops / stage.seconds / probe.product_rate
        for name, stage in probe.stages.items()
        if stage.error is None and stage.seconds > 0
    }
