"""The accelerators of one training, and the iterator that tells them of each batch."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence, Sized
from types import MappingProxyType
from typing import Any, Protocol

import torch

from espnet_plugin.nn.accelerators.base import Accelerator, Host, Progress
from espnet_plugin.nn.accelerators.hiding import hide_modules
from espnet_plugin.nn.accelerators.registry import build_accelerators


class _Batches(Protocol):
    """What ESPnet's training loop takes."""

    def __iter__(self) -> Iterator[Any]: ...

    def __len__(self) -> int: ...


class PrivatePart(Accelerator):
    """A module that a stage trains beside its model: not in its files, but in a resume."""

    def __init__(self, module: torch.nn.Module) -> None:
        self.private = module

    def attach(self, host: Host) -> None:
        """It is part of the model's loss already."""


class AttachedAccelerators:
    """Builds and attaches accelerators.

    Args:
        options: of the stage, see `build_accelerators`.
        host: what they are attached to.
        private: modules that the stage itself trains and that no file of the model has, by name.

    Raises:
        ValueError: an option is wrong, or an accelerator does not fit the stage.
    """

    def __init__(
        self,
        options: Mapping[str, Any],
        host: Host,
        private: Mapping[str, torch.nn.Module] = MappingProxyType({}),
    ) -> None:
        self._by_name: dict[str, Accelerator] = build_accelerators(options)
        self._by_name |= {name: PrivatePart(module) for name, module in private.items()}
        # Innermost: what chooses among the rows of a batch gets the terms of the rows it chose.
        self._add_terms(host)
        for name, accelerator in self._by_name.items():
            losses = accelerator.losses
            if losses is not None and host.loss not in losses:
                raise ValueError(
                    f"accelerators.{name} works with loss {', '.join(losses)}, not with "
                    f"{host.loss}; set accelerators: {{{name}: null}} in this stage"
                )
            for other in accelerator.excludes:
                if other in self._by_name:
                    raise ValueError(f"accelerators.{name} does not go together with {other}")
            try:
                accelerator.attach(host)
            except ValueError as error:
                raise ValueError(f"accelerators.{name}: {error}") from error
        hide_modules(
            host.model,
            {name: a.private for name, a in self._by_name.items() if a.private is not None},
        )

    def __bool__(self) -> bool:
        return bool(self._by_name)

    def _add_terms(self, host: Host) -> None:
        """Wraps the model's forward where an accelerator has a term of the loss."""
        adding = {
            name: accelerator
            for name, accelerator in self._by_name.items()
            if type(accelerator).loss_term is not Accelerator.loss_term
        }
        if not adding:
            return
        model, plain = host.model, host.model.forward

        @functools.wraps(plain)
        def forward(*args: Any, **batch: Any) -> Any:
            result = plain(*args, **batch)
            if not (model.training and torch.is_grad_enabled()):
                return result
            loss, stats, weight = result
            with torch.autocast(loss.device.type, enabled=False):
                for name, accelerator in adding.items():
                    term = accelerator.loss_term(batch, weight)
                    if term is not None:
                        loss = loss + term.to(loss).reshape(loss.shape)
                        # ESPnet averages over processes what has the weight's shape
                        told = term.detach().to(weight).reshape(weight.shape)
                        stats = {**stats, f"loss_{name}": told}
            return loss, stats, weight

        model.forward = forward

    def attach_optimizers(self, optimizers: Sequence[torch.optim.Optimizer]) -> None:
        """Tell all of them of the optimizers, which have the private parameters as well."""
        for accelerator in self._by_name.values():
            accelerator.attach_optimizers(optimizers)

    def before_batch(self, progress: Progress) -> None:
        """Tell all of them."""
        for accelerator in self._by_name.values():
            accelerator.before_batch(progress)

    def after_epoch(self, loss: float, fraction: float) -> None:
        """Tell all of them."""
        for accelerator in self._by_name.values():
            accelerator.after_epoch(loss, fraction)

    def strength(self) -> dict[str, float]:
        """All settings of the current batch, `<accelerator>_<name>`."""
        return {
            f"{name}_{key}": value
            for name, accelerator in self._by_name.items()
            for key, value in accelerator.strength().items()
        }

    @property
    def mend_averages(self) -> bool:
        """Whether averages of epochs have to be mended."""
        plain = Accelerator.mend_average
        return any(type(a).mend_average is not plain for a in self._by_name.values())

    def mend_average(self, states: dict[str, torch.Tensor]) -> None:
        """Hand an average of epochs to all of them."""
        for accelerator in self._by_name.values():
            accelerator.mend_average(states)

    def state_dict(self) -> dict[str, dict[str, Any]]:
        """Private state by the accelerators' names; those that have none are left out."""
        states = {name: a.state_dict() for name, a in self._by_name.items()}
        return {name: state for name, state in states.items() if state}

    def load_state_dict(self, states: Mapping[str, Mapping[str, Any]]) -> None:
        """Takes back what `state_dict` gave.

        Raises:
            ValueError: it is of other accelerators.
        """
        expected = list(self.state_dict())
        if list(states) != expected:
            raise ValueError(
                f"private state of accelerators {', '.join(states) or 'none'}, but the stage has "
                f"{', '.join(expected) or 'none with private state'}"
            )
        for name, state in states.items():
            self._by_name[name].load_state_dict(state)


class AnnouncedBatches(Sized):
    """An epoch's batches; before each, accelerators learn its place in the stage.

    Args:
        batches: of the epoch, with a length.
        accelerators: to tell.
        place: progress of the batch of a number within the epoch.
        log: takes the batch's settings.
    """

    def __init__(
        self,
        batches: _Batches,
        accelerators: AttachedAccelerators,
        place: Callable[[int], Progress],
        log: Callable[[dict[str, float]], None],
    ) -> None:
        self._batches, self._accelerators = batches, accelerators
        self._place, self._log = place, log

    def __len__(self) -> int:
        return len(self._batches)

    def __iter__(self) -> Iterator[Any]:
        for number, batch in enumerate(self._batches):
            self._accelerators.before_batch(self._place(number))
            strength = self._accelerators.strength()
            if strength:
                self._log(strength)
            yield batch
