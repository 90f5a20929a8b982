"""Stages that learn from speech alone: their place in the plan, their data, what follows them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from espnet_plugin.pipeline.plan.init_from import PARTS, InitFrom
from espnet_plugin.pipeline.plan.options import RunOptions
from espnet_plugin.pipeline.plan.stage_plan import TrainStage

#: All but the encoder and what comes before it: a stage that pretrains leaves these as they began.
UNTRAINED = tuple(p for part, prefixes in PARTS.items() if part != "encoder" for p in prefixes)
#: What makes features, and with them the encoder's input, out of speech.
_FRONT_END = ("frontend", "frontend_conf", "normalize", "preencoder", "preencoder_conf", "encoder")
#: Options of an encoder that may differ between a stage and the one that it starts from.
_FREE = frozenset(
    {
        *("interctc_layer_idx", "interctc_use_conditioning", "masked_batch_norm", "left_context"),
        *("stochastic_depth_rate", "input_dropout"),
    }
)


def encoder_starts(stages: Sequence[TrainStage]) -> tuple[TrainStage, ...]:
    """The stages, those that start from a pretraining one with its encoder alone."""
    pretraining = {stage.name for stage in stages if stage.pretrains}
    return tuple(
        replace(stage, init_from=_encoder_of(stage.init_from))
        if stage.init_from is not None and stage.init_from.stage in pretraining
        else stage
        for stage in stages
    )


def _encoder_of(init: InitFrom) -> InitFrom:
    return replace(init, exclude=tuple(dict.fromkeys((*init.exclude, *UNTRAINED))))


def check_pretraining(stages: Sequence[TrainStage], where: Path) -> None:
    """Check the stages that pretrain, and those that start from them.

    Args:
        where: file of the plan, for messages.

    Raises:
        ValueError: one comes after a stage that recognises, or makes other features or another
            encoder than the stage that starts from it; data of its own for another stage.
    """
    by_name = {stage.name: stage for stage in stages}
    for index, stage in enumerate(stages):
        if stage.data and not stage.pretrains:
            raise ValueError(
                f"{where}: stage {stage.name}: data: is for stages that learn without transcripts "
                "(loss best_rq, masked_spectrogram); the others train on --train_data"
            )
        later = [other.name for other in stages[:index] if not other.pretrains]
        if stage.pretrains and later:
            raise ValueError(
                f"{where}: stage {stage.name} (loss {stage.loss}) learns from speech alone and has "
                f"to come first, before {', '.join(later)}; set "
                "stage_scheduler_conf: {stages: [...]}"
            )
        source = None if stage.init_from is None else by_name.get(stage.init_from.stage or "")
        if source is not None and source.pretrains:
            _check_same_encoder(stage, source, where)


def _check_same_encoder(stage: TrainStage, source: TrainStage, where: Path) -> None:
    assert stage.init_from is not None
    free = set(_FREE)
    free |= {"num_blocks"} if stage.init_from.blocks is not None else set()
    own, there = (_encoder_options(each.options, free) for each in (stage, source))
    wrong = [key for key in dict.fromkeys((*own, *there)) if own.get(key) != there.get(key)]
    if wrong:
        told = [f"{key} {own.get(key)} instead of {there.get(key)}" for key in wrong]
        raise ValueError(
            f"{where}: stage {stage.name} starts from the encoder of {source.name}, but has "
            f"{'; '.join(told)}; give both the same, under base:"
        )


def _encoder_options(options: Mapping[str, Any], free: set[str]) -> dict[str, Any]:
    found = {key: options.get(key) for key in _FRONT_END}
    for key, value in (options.get("encoder_conf") or {}).items():
        if key == "chunk_sizes":  # which ones is free, whether there are any makes convolutions
            value = "some" if value is not None else None
        if key not in free and not key.endswith("dropout_rate"):
            found[f"encoder_conf.{key}"] = value
    return found


def options_for(stage: TrainStage, options: RunOptions) -> RunOptions:
    """The options with the data that a stage trains on, and where their statistics are."""
    if not stage.pretrains:
        return options
    if not stage.data:
        return replace(options, labelled=False)
    folder = options.stats_dir.with_name(f"{options.stats_dir.name}_{stage.name}")
    return replace(
        options,
        train_data=stage.data.get("train", options.train_data),
        valid_data=stage.data.get("valid", options.valid_data),
        stats_dir=folder,
        labelled=False,
    )


def all_options(stages: Sequence[TrainStage], options: RunOptions) -> list[RunOptions]:
    """Those of all stages, each once; what all stages share comes first."""
    found: list[RunOptions] = []
    for stage in sorted(stages, key=lambda each: each.pretrains):
        own = options_for(stage, options)
        if not any(_same_data(own, other) for other in found):
            found.append(own)
    return found


def _same_data(one: RunOptions, other: RunOptions) -> bool:
    """Whether `other` has the lists that `one` needs."""
    folders = (one.train_data, one.valid_data, one.stats_dir)
    return folders == (other.train_data, other.valid_data, other.stats_dir)
