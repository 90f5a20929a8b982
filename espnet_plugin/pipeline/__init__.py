"""The pipeline of train stages: plan, state on disk, launching, steps (L3)."""

from espnet_plugin.pipeline.pipeline import Pipeline
from espnet_plugin.pipeline.plan.budget import Budget
from espnet_plugin.pipeline.plan.config import PipelineConfig, deep_merge, load_pipeline_config
from espnet_plugin.pipeline.plan.options import RunOptions
from espnet_plugin.pipeline.plan.scheduler import (
    FullSumOnlyScheduler,
    ProgressiveScheduler,
    StageScheduler,
    make_plan,
    register_stage_scheduler,
    stage_scheduler_classes,
)
from espnet_plugin.pipeline.plan.stage_plan import InitFrom, Step, TrainStage, build_steps
from espnet_plugin.pipeline.state.state import PipelineState, StepState

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
