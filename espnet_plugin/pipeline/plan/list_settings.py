"""Settings of an N-best job that follow from the stage that its lists are for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from espnet_plugin.data.frame_limit import frame_limit
from espnet_plugin.pipeline.plan.budget import with_arguments
from espnet_plugin.pipeline.plan.config import PipelineConfig
from espnet_plugin.pipeline.plan.options import RunOptions
from espnet_plugin.pipeline.plan.stage_plan import Step, TrainStage

#: Of the mbr stage's softmax where its ``loss_conf`` names none (the paper's).
SCALE = 2.5


def list_limit(
    step: Step, config: PipelineConfig, stages: Mapping[str, TrainStage], options: RunOptions
) -> int | None:
    """``max_frames`` of the stage that the lists are for, where the ``nbest`` section has none."""
    if step.kind != "nbest" or step.consumer is None or config.nbest.get("max_frames") is not None:
        return None
    return frame_limit(_consumer_options(step, stages, options))


def list_settings(
    step: Step, config: PipelineConfig, stages: Mapping[str, TrainStage], options: RunOptions
) -> dict[str, Any]:
    """The YAML's ``nbest`` section, as it applies to this step."""
    limit = list_limit(step, config, stages, options)
    return {**config.nbest, **({} if limit is None else {"max_frames": limit})}


def list_scale(step: Step, stages: Mapping[str, TrainStage], options: RunOptions) -> float:
    """Scale of the scores in the softmax over the lists, of the stage that they are for."""
    if step.consumer is None:
        return SCALE
    conf = _consumer_options(step, stages, options).get("loss_conf") or {}
    return float(conf.get("scale", SCALE))


def _consumer_options(
    step: Step, stages: Mapping[str, TrainStage], options: RunOptions
) -> dict[str, Any]:
    """Of the stage that the lists are for, ``--mbr_args "--loss_conf scale=1"`` included."""
    stage = stages[str(step.consumer)]
    return with_arguments(stage.options, options.arguments_of(stage.name))
