"""What each step was made from, and whether that still holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from espnet_plugin import __version__
from espnet_plugin.data.lm_spec import named_files
from espnet_plugin.packages.sources import find_model
from espnet_plugin.pipeline.plan.budget import Budget, with_arguments
from espnet_plugin.pipeline.plan.config import PipelineConfig
from espnet_plugin.pipeline.plan.inputs import initial_model
from espnet_plugin.pipeline.plan.list_settings import list_limit
from espnet_plugin.pipeline.plan.losses import find_loss
from espnet_plugin.pipeline.plan.options import RunOptions
from espnet_plugin.pipeline.plan.pretraining import options_for
from espnet_plugin.pipeline.plan.realign import entry_after, is_realignment
from espnet_plugin.pipeline.plan.stage_plan import InitFrom, Step, TrainStage
from espnet_plugin.pipeline.state.fingerprint import (
    fingerprint,
    relevant_arguments,
    relevant_options,
)
from espnet_plugin.pipeline.state.nbest_quality import NBEST_LIMITS
from espnet_plugin.pipeline.state.quality import LIMITS
from espnet_plugin.pipeline.state.state import PipelineState, StepState


def fingerprints(
    steps: Sequence[Step],
    stages: Mapping[str, TrainStage],
    config: PipelineConfig,
    options: RunOptions,
) -> dict[str, str]:
    """The fingerprint that every step would have if it were made now.

    Raises:
        ValueError: a file to be hashed is missing.
    """
    prints: dict[str, str] = {}
    common = {
        "version": __version__,
        "feats_type": options.feats_type,
        "fs": options.fs if options.feats_type == "raw" else None,
        "text": {k: v for k, v in options.text_options.items() if not Path(str(v)).is_file()},
    }
    data = [*options.data_files(), *options.text_files()]
    for step in steps:
        files = list(data)
        settings: dict[str, Any] = {**common, "kind": step.kind, "name": step.name}
        if step.kind == "train":
            stage = stages[step.name.removeprefix("train:")]
            settings.update(_train_settings(stage, options))
            own = options_for(stage, options)
            if stage.pretrains:
                files = [*own.data_files(), *options.text_files()]
            if stage.init_from is not None and stage.init_from.external:
                files.append(initial_model(stage.init_from))
            files += [*own.shape_files("train"), *own.shape_files("valid")]
            files += option_files(stage, options)
            files.append(options.stats_dir / "train" / "feats_stats.npz")
        else:
            section = config.nbest if step.kind == "nbest" else config.alignment
            # An alignment does not depend on whether there will be another one.
            leave_out = {*LIMITS, *NBEST_LIMITS, "realign"}
            settings["options"] = {
                k: v for k, v in relevant_options(section).items() if k not in leave_out
            }
            if is_realignment(step.folder):
                settings["options"]["realign"] = entry_after(config.alignment, step.stage)
            limit = list_limit(step, config, stages, options)
            if limit is not None:
                settings["options"]["max_frames"] = limit
            external = step.stage is None and config.alignment.get("from_file")
            files += [Path(external)] if external else []
            start = stages[step.start].init_from if step.start is not None else None
            files += [initial_model(start)] if start is not None else []
            files += named_files(section) if step.kind == "nbest" else []
        files = [path for path in files if path.name != "feats_stats.npz" or path.exists()]
        prints[step.name] = fingerprint(settings, files, [prints[u] for u in step.upstream])
    return prints


def staleness(step: Step, state: PipelineState, prints: Mapping[str, str], exp: Path) -> str | None:
    """Why what ``step`` has on disk must not be used or continued; None if it may.

    A step whose folder holds nothing worth keeping is never stale: it simply begins.
    """
    known = state.steps.get(step.name)
    if known is None or known.status == "todo" or not _has_results(exp / step.folder):
        return None
    if known.fingerprint != prints[step.name]:
        return "its configuration, data or package version changed"
    for upstream in step.upstream:
        made = state.step(upstream).finished
        if upstream in known.inputs and known.inputs[upstream] != made:
            return f"{upstream} was made again after it"
        if made is None:
            return f"{upstream}, which it was made from, is not there any more"
    return None


def upstream_times(step: Step, state: PipelineState) -> dict[str, float | None]:
    """When each upstream step was finished; kept with a step to notice that one was remade."""
    return {name: state.step(name).finished for name in step.upstream}


def display_status(
    step: Step, state: PipelineState, prints: Mapping[str, str], exp: Path, locked: bool
) -> tuple[str, StepState]:
    """done | running | interrupted | failed | stale | todo, for people."""
    known = state.steps.get(step.name, StepState())
    if staleness(step, state, prints, exp):
        return "stale", known
    if known.status == "running" and not locked:
        return "interrupted", known
    return known.status, known


def option_files(stage: TrainStage, options: RunOptions) -> list[Path]:
    """What a stage's options name, ``--<stage>_args`` included."""
    given = with_arguments(stage.options, options.arguments_of(stage.name))
    loss = find_loss(stage.loss)
    return [*teacher_files(given), *loss.files_of(given.get("loss_conf") or {})]


def teacher_files(options: Mapping[str, Any]) -> list[Path]:
    """What another model has written for a stage (`repa`, `selective`), or is (`distill`).

    Accelerators that are none are passed over here; the check of the stage names them.
    """
    codes = _place(options, "repa", "codes")
    losses = _place(options, "selective", "irreducible")
    model = _place(options, "distill", "model")
    return [
        *([Path(codes) / name for name in ("codes", "codes.json")] if codes else []),
        *([Path(losses) / name for name in ("losses", "losses.json")] if losses else []),
        *([find_model(model).model_file] if model else []),
    ]


def _place(options: Mapping[str, Any], accelerator: str, option: str) -> str | None:
    """What an accelerator's option names."""
    accelerators = options.get("accelerators")
    own = accelerators.get(accelerator) if isinstance(accelerators, Mapping) else None
    found = own.get(option) if isinstance(own, Mapping) else None
    return found if isinstance(found, str) else None


def _budget(budget: Budget) -> list[float | None]:
    """As fingerprints of earlier versions had it, for the budgets that there were."""
    found = [budget.max_steps, budget.hours]
    return found if budget.reference_hours is None else [*found, budget.reference_hours]


def _init_settings(init: InitFrom | None) -> list[Any] | None:
    """As fingerprints of earlier versions had it, for the starts that there were."""
    if init is None:
        return None
    found = [init.stage, init.checkpoint, init.file, init.exclude]
    shapes = [
        *([] if init.blocks is None else [init.blocks]),
        *([] if init.ticket is None else [asdict(init.ticket)]),
        *([] if init.vocabulary is None else [init.vocabulary]),
    ]
    return [*found, *shapes]


def _fold_length(stage: TrainStage, options: RunOptions) -> list[int] | None:
    """What the command line says about a stage's batches; None where it is the default."""
    given = with_arguments(stage.options, options.arguments_of(stage.name))
    own = options_for(stage, options)
    found = own.fold_length(given)
    usual = replace(own, fold_lengths=RunOptions.fold_lengths).fold_length(given)
    return None if found == usual else found


def _train_settings(stage: TrainStage, options: RunOptions) -> dict[str, Any]:
    fold_length = _fold_length(stage, options)
    return {
        "options": relevant_options(stage.options),
        "arguments": relevant_arguments(options.arguments_of(stage.name)),
        "init": _init_settings(stage.init_from),
        "budget": _budget(stage.budget),
        "checkpoint": stage.checkpoint,
        # Earlier versions had none, and their work with the default holds.
        **({} if fold_length is None else {"fold_length": fold_length}),
    }


def _has_results(folder: Path) -> bool:
    """A checkpoint or model, or any output of a job."""
    if any(folder.glob("*.pth")):
        return True
    return (folder / "logdir").is_dir() or (folder / "alignment").exists()
