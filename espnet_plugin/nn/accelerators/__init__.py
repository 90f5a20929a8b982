"""Ways to train for less, each an option of a train stage (level 1, plain torch).

While an accelerator is attached, the model's state dict has the names and shapes of the plain
model, so that checkpoints, averages, later stages and packages know nothing of it.
"""

from espnet_plugin.nn.accelerators.attached import AttachedAccelerators
from espnet_plugin.nn.accelerators.base import Accelerator, Host, Progress
from espnet_plugin.nn.accelerators.registry import (
    accelerator_names,
    build_accelerators,
    register_accelerator,
)

__all__ = [
    "Accelerator",
    "AttachedAccelerators",
    "Host",
    "Progress",
    "accelerator_names",
    "build_accelerators",
    "register_accelerator",
]
