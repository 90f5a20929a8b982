"""What is to be done: configuration, stages, their order, budget, inputs, options."""

from espnet_plugin.pipeline.plan.stage_plan import (
    InitFrom,
    Step,
    TrainStage,
    build_steps,
    make_stage,
    validate_plan,
    with_init,
)

__all__ = [
    "InitFrom",
    "Step",
    "TrainStage",
    "build_steps",
    "make_stage",
    "validate_plan",
    "with_init",
]
