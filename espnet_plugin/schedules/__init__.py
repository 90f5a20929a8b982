"""Learning-rate curves as pure functions of the step (L0)."""

from espnet_plugin.schedules.curves import constant_linear_decay, one_cycle_linear, piecewise_linear

__all__ = ["constant_linear_decay", "one_cycle_linear", "piecewise_linear"]
