"""Batches that hold every training utterance more than once, each time augmented otherwise.

Shape legend: B batch, W views.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from espnet_plugin.models.criteria.base import Views
from espnet_plugin.models.specaug import ProgressiveSpecAug


def check_views(specaug: Any, views: Views | None) -> None:
    """Raises ValueError unless the model can augment an utterance twice.

    The time axis has to be the same in all views, or frames could not be compared.
    """
    if views is not None and not isinstance(specaug, ProgressiveSpecAug):
        raise ValueError(
            "loss_conf.consistency_scale compares two augmentations of each utterance, which "
            f"needs specaug: progressive, not {type(specaug).__name__}; set it in this stage, or "
            "consistency_scale: 0"
        )


def repeated(data: Mapping[str, Any], views: Views) -> dict[str, Any]:
    """A batch's data once for each view, view after view: tensors [B, ...] -> [W·B, ...]."""
    return {name: _repeat(value, views.count) for name, value in data.items()}


def _repeat(value: Any, count: int) -> Any:
    if isinstance(value, Tensor):
        return torch.cat([value] * count)
    return value * count if isinstance(value, (list, tuple)) else value
