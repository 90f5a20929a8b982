"""The accelerators of one training, and the iterator that tells them of each batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sized
from typing import Any, Protocol

from espnet_plugin.nn.accelerators.base import Accelerator, Host, Progress
from espnet_plugin.nn.accelerators.registry import build_accelerators


class _Batches(Protocol):
    """What ESPnet's training loop takes."""

    def __iter__(self) -> Iterator[Any]: ...

    def __len__(self) -> int: ...


class AttachedAccelerators:
    """Builds and attaches accelerators.

    Args:
        options: of the stage, see `build_accelerators`.
        host: what they are attached to.

    Raises:
        ValueError: an option is wrong, or an accelerator does not fit the stage.
    """

    def __init__(self, options: Mapping[str, Any], host: Host) -> None:
        self._by_name: dict[str, Accelerator] = build_accelerators(options)
        for name, accelerator in self._by_name.items():
            losses = accelerator.losses
            if losses is not None and host.loss not in losses:
                raise ValueError(
                    f"accelerators.{name} works with loss {', '.join(losses)}, not with "
                    f"{host.loss}; set accelerators: {{{name}: null}} in this stage"
                )
            try:
                accelerator.attach(host)
            except ValueError as error:
                raise ValueError(f"accelerators.{name}: {error}") from error

    def __bool__(self) -> bool:
        return bool(self._by_name)

    def before_batch(self, progress: Progress) -> None:
        """Tell all of them."""
        for accelerator in self._by_name.values():
            accelerator.before_batch(progress)

    def strength(self) -> dict[str, float]:
        """All settings of the current batch, `<accelerator>_<name>`."""
        return {
            f"{name}_{key}": value
            for name, accelerator in self._by_name.items()
            for key, value in accelerator.strength().items()
        }


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
