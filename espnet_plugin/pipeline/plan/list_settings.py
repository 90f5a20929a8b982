"""Settings of an N-best job that follow from the stage that its lists are for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from espnet_plugin.data.frame_limit import frame_limit
from espnet_plugin.pipeline.plan.config import PipelineConfig
from espnet_plugin.pipeline.plan.stage_plan import Step, TrainStage

#: Of the mbr stage's softmax where its ``loss_conf`` names none (the paper's).
SCALE = 2.5


def list_limit(step: Step, config: PipelineConfig, stages: Mapping[str, TrainStage]) -> int | None:
    """``max_frames`` of the stage that the lists are for, where the ``nbest`` section has none."""
    if step.kind != "nbest" or step.consumer is None or config.nbest.get("max_frames") is not None:
        return None
    return frame_limit(stages[step.consumer].options)


def list_settings(
    step: Step, config: PipelineConfig, stages: Mapping[str, TrainStage]
) -> dict[str, Any]:
    """The YAML's ``nbest`` section, as it applies to this step."""
    limit = list_limit(step, config, stages)
    return {**config.nbest, **({} if limit is None else {"max_frames": limit})}


def list_scale(step: Step, stages: Mapping[str, TrainStage]) -> float:
    """Scale of the scores in the softmax over the lists, of the stage that they are for."""
    conf = {} if step.consumer is None else stages[step.consumer].options.get("loss_conf") or {}
    return float(conf.get("scale", SCALE))
