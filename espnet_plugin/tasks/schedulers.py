"""The paper's learning-rate curves as ESPnet schedulers, stepped after every update.

`total_steps` may be left out: the Trainer then sets it to the updates of the whole stage, so that a
curve is given in fractions of the stage and follows `max_epoch`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import Any

from espnet2.schedulers.abs_scheduler import AbsBatchStepScheduler
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import _LRScheduler

from espnet_plugin.nn.rate_curves import constant_linear_decay, one_cycle_linear


class CurveScheduler(_LRScheduler, AbsBatchStepScheduler):
    """A curve over the steps of one stage; subclasses give the curve.

    Derives from both classes because ESPnet would otherwise step it once per epoch.

    Attributes:
        curve: (step, total_steps=...) -> learning rate.
    """

    curve: Callable[..., float]

    def __init__(
        self, optimizer: Optimizer, total_steps: int | None = None, last_epoch: int = -1
    ) -> None:
        if total_steps is not None and total_steps < 1:
            raise ValueError(f"scheduler_conf.total_steps must be positive, got {total_steps}")
        self.total_steps = total_steps
        super().__init__(optimizer, last_epoch)

    def lr_at(self, step: int, total_steps: int) -> float:
        """Learning rate of update number `step` (from 0)."""
        return self.curve(step, total_steps=total_steps)

    def set_total_steps(self, total_steps: int) -> None:
        """Called by the Trainer before the first step, unless the configuration fixed the total."""
        if self.total_steps is None:
            self.total_steps = total_steps
            self._apply()

    def _apply(self) -> None:
        for group, rate in zip(self.optimizer.param_groups, self.get_lr(), strict=True):
            group["lr"] = rate

    def get_lr(self) -> list[float | Tensor]:
        """The same rate for every parameter group.

        Raises:
            ValueError: a step is made and nobody told how many there are.
        """
        if self.total_steps is None and self.last_epoch > 0:
            raise ValueError(
                f"{type(self).__name__.lower()} does not know how long the training is and would "
                "stay at its first rate: give scheduler_conf.total_steps, or train with "
                "python -m espnet_plugin.jobs.asr_train, which tells it"
            )
        # Before the Trainer told the total, only the constructor asks: it wants the first rate.
        total = self.total_steps if self.total_steps is not None else 1 << 62
        return [self.lr_at(self.last_epoch, total)] * len(self.optimizer.param_groups)

    def state_dict(self) -> dict[str, Any]:
        """Step counter and total, so that a resumed stage continues on its curve."""
        return {"last_epoch": self.last_epoch, "total_steps": self.total_steps}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continues at the saved step; a changed stage length moves the rest of the curve."""
        self.last_epoch = state["last_epoch"]
        saved = state.get("total_steps")
        if self.total_steps is None:
            self.total_steps = saved
        elif saved is not None and saved != self.total_steps:
            logging.warning(
                "the stage now has %d steps, it had %d when the checkpoint was written; the "
                "learning rate follows the new length",
                self.total_steps,
                saved,
            )
        self._apply()
        self._last_lr = self.get_lr()


class OneCycleLinear(CurveScheduler):
    """`scheduler: onecyclelinear`: stages 0 and 1 (see `one_cycle_linear`).

    Args:
        peak_lr, initial_lr, final_lr: rates; up, down: fractions of the steps.
        total_steps: updates of the curve; null: those of the stage.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        peak_lr: float,
        initial_lr: float,
        final_lr: float,
        up: float = 0.45,
        down: float = 0.45,
        total_steps: int | None = None,
        last_epoch: int = -1,
    ) -> None:
        rates = {"peak_lr": peak_lr, "initial_lr": initial_lr, "final_lr": final_lr}
        self.curve = partial(one_cycle_linear, **rates, up=up, down=down)
        super().__init__(optimizer, total_steps, last_epoch)


class ConstantLinearDecay(CurveScheduler):
    """`scheduler: constantlineardecay`: stages 2 and 3 (see `constant_linear_decay`).

    Args:
        initial_lr, decayed_lr, final_lr: rates; constant, decay: fractions of the steps.
        total_steps: updates of the curve; null: those of the stage.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        initial_lr: float,
        decayed_lr: float,
        final_lr: float,
        constant: float = 0.46,
        decay: float = 0.46,
        total_steps: int | None = None,
        last_epoch: int = -1,
    ) -> None:
        rates = {"initial_lr": initial_lr, "decayed_lr": decayed_lr, "final_lr": final_lr}
        self.curve = partial(constant_linear_decay, **rates, constant=constant, decay=decay)
        super().__init__(optimizer, total_steps, last_epoch)
