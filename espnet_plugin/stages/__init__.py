"""The pipeline of train stages: plan, state on disk, jobs between stages, progress."""

from espnet_plugin.stages.budget import Budget
from espnet_plugin.stages.config import PipelineConfig, deep_merge, load_pipeline_config
from espnet_plugin.stages.options import RunOptions
from espnet_plugin.stages.pipeline import Pipeline
from espnet_plugin.stages.plan import InitFrom, Step, TrainStage, build_steps
from espnet_plugin.stages.scheduler import (
    FullSumOnlyScheduler,
    ProgressiveScheduler,
    StageScheduler,
    make_plan,
    register_stage_scheduler,
    stage_scheduler_classes,
)
from espnet_plugin.stages.state import PipelineState, StepState

__all__ = [
    "Budget",
    "FullSumOnlyScheduler",
    "InitFrom",
    "Pipeline",
    "PipelineConfig",
    "PipelineState",
    "ProgressiveScheduler",
    "RunOptions",
    "StageScheduler",
    "Step",
    "StepState",
    "TrainStage",
    "build_steps",
    "deep_merge",
    "load_pipeline_config",
    "make_plan",
    "register_stage_scheduler",
    "stage_scheduler_classes",
]
