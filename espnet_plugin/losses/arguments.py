"""Keyword arguments that all full-sum losses share, checked once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypedDict

from espnet_plugin.losses.options import FullSumOptions
from espnet_plugin.losses.reduction import check_infeasible, check_reduction
from espnet_plugin.losses.restriction import Restriction


class FullSumKeywords(TypedDict, total=False):
    """The keyword arguments' names and types; see `FullSumArguments`."""

    blank: int
    topology: str
    backend: str
    reduction: str
    infeasible: str
    fastemit_lambda: float
    delay_penalty: float
    restriction: Restriction | None
    check: bool | None


@dataclass(frozen=True)
class FullSumArguments:
    """Keyword arguments of `full_sum_loss` and `fused_full_sum_loss`.

    Attributes:
        blank: index of the blank.
        topology: ``monotonic`` or ``rnnt``.
        backend: a name of :func:`available_backends`, or ``auto``.
        reduction: ``none`` [B], ``sum``, or ``mean`` over sequences.
        infeasible: what a sequence without any alignment gives (more labels than frames in the
            ``monotonic`` topology): ``inf`` (loss +inf), ``skip`` (loss 0, not counted in the
            mean), ``error``. Its gradient is 0 in every case.
        fastemit_lambda: see :class:`espnet_plugin.losses.options.FullSumOptions`.
        delay_penalty: see :class:`espnet_plugin.losses.options.FullSumOptions`.
        restriction: sum over some alignments only, see :mod:`espnet_plugin.losses.restriction`.
        check: True checks all values (lengths, labels, finite logits), False none, None (the
            default) lengths and labels if they are on the CPU.

    Raises:
        ValueError: a value is unknown or out of range.
    """

    blank: int = 0
    topology: str = "monotonic"
    backend: str = "auto"
    reduction: str = "mean"
    infeasible: str = "inf"
    fastemit_lambda: float = 0.0
    delay_penalty: float = 0.0
    restriction: Restriction | None = None
    check: bool | None = None

    def __post_init__(self) -> None:
        check_reduction(self.reduction)
        check_infeasible(self.infeasible)

    def options(self) -> FullSumOptions:
        """What backends receive of them.

        Raises:
            ValueError: unknown topology or a negative regulariser.
        """
        return FullSumOptions(
            self.blank,
            self.topology,
            self.fastemit_lambda,
            self.delay_penalty,
            self.restriction,
        )
