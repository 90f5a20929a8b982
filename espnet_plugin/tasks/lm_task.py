"""ESPnet's LM task with a training that goes on after a kill at any moment."""

from __future__ import annotations

from espnet2.tasks.lm import LMTask

from espnet_plugin.tasks.trainer import KillSafeTrainer


class KillSafeLMTask(LMTask):
    """Of a module, so that the processes of several GPUs can find it."""

    trainer = KillSafeTrainer
