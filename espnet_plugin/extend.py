"""What a package of your own imports to add losses, models, ... to the pipeline: docs/extending.md.

from espnet_plugin.extend import Criterion, register_loss

Each name is imported from its room when it is asked for, so that a module which registers a loss
imports torch and no ESPnet, and one that registers a stage scheduler neither.
"""

from __future__ import annotations

import importlib
from typing import Any

#: Name -> the module that has it.
HOMES = {
    "Accelerator": "espnet_plugin.nn.accelerators.base",
    "Batch": "espnet_plugin.models.batch",
    "Criterion": "espnet_plugin.models.criteria.base",
    "CurveScheduler": "espnet_plugin.tasks.schedulers",
    "PredictionNetwork": "espnet_plugin.nn.prediction",
    "ProgressiveTransducerModel": "espnet_plugin.models.progressive",
    "StageScheduler": "espnet_plugin.pipeline.plan.scheduler",
    "TransducerParts": "espnet_plugin.models.criteria.base",
    "feasible": "espnet_plugin.models.criteria.base",
    "make_stage": "espnet_plugin.pipeline.plan.stage_plan",
    "register_accelerator": "espnet_plugin.nn.accelerators.registry",
    "register_encoder": "espnet_plugin.tasks.registry",
    "register_loss": "espnet_plugin.pipeline.plan.losses",
    "register_model": "espnet_plugin.tasks.registry",
    "register_prediction_network": "espnet_plugin.tasks.registry",
    "register_scheduler": "espnet_plugin.tasks.registry",
    "register_stage_scheduler": "espnet_plugin.pipeline.plan.scheduler",
}
__all__ = sorted(HOMES)


def __getattr__(name: str) -> Any:
    if name not in HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(HOMES[name]), name)
