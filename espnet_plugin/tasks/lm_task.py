"""ESPnet's LM task with a training that goes on after a kill at any moment."""

from __future__ import annotations

import argparse

from espnet2.lm.espnet_model import ESPnetLanguageModel
from espnet2.tasks.lm import LMTask

from espnet_plugin.tasks.progressive import read_labels
from espnet_plugin.tasks.trainer import KillSafeTrainer


class KillSafeLMTask(LMTask):
    """Of a module, so that the processes of several GPUs can find it."""

    trainer = KillSafeTrainer

    @classmethod
    def build_model(cls, args: argparse.Namespace) -> ESPnetLanguageModel:
        """ESPnet's, of the labels as we read them."""
        read_labels(args)
        return super().build_model(args)
