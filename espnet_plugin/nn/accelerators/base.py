"""The interface of an accelerator, and the progress of a stage that its schedule follows."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Host:
    """What accelerators are attached to.

    Attributes:
        model: of the stage, on its device.
        blocks: the encoder's blocks, the lowest first.
        loss: name of the stage's loss.
        seed: of the stage.
        use_amp: whether ESPnet's own mixed precision is on.
        utterances: gives the ids of the training data; none of a probe with made-up batches.
        load_model: gives the trained model at a place; None where nobody can.
    """

    model: nn.Module
    blocks: Sequence[nn.Module]
    loss: str
    seed: int
    use_amp: bool = False
    utterances: Callable[[], Iterable[str]] = tuple
    load_model: Callable[[str], nn.Module] | None = None

    def require_utterances(self, known: Container[str], path: Path, remedy: str) -> bool:
        """Whether a table's utterances are those of a training; False of a probe's made-up ones.

        Args:
            known: utterances that the table has.
            path: of the table.
            remedy: what to do about missing ones.

        Raises:
            ValueError: it lacks some.
        """
        wanted = list(self.utterances())
        missing = [name for name in wanted if name not in known]
        if missing:
            raise ValueError(
                f"{path}: lacks {len(missing)} of {len(wanted)} training utterances, such as "
                f"{missing[0]}; {remedy}, copies at other speeds as well"
            )
        return bool(wanted)


@dataclass(frozen=True)
class Progress:
    """How far a stage is, before a batch.

    Attributes:
        epoch: from 1.
        iteration: batches of this epoch before this one.
        iterations: batches of an epoch.
        max_epoch: epochs of the stage.
        accum_grad: batches of an optimizer update.
    """

    epoch: int
    iteration: int
    iterations: int
    max_epoch: int
    accum_grad: int = 1

    @property
    def fraction(self) -> float:
        """t in [0, 1): counted in batches, since updates with infinite gradients are left out."""
        done = (self.epoch - 1) * self.iterations + self.iteration
        return done / (self.max_epoch * self.iterations)

    @property
    def update_fraction(self) -> float:
        """t of the update's first batch; the same for all of its batches."""
        return replace(self, iteration=self.update * self.accum_grad).fraction

    @property
    def update(self) -> int:
        """Number of the optimizer update within the epoch; the same for all of its batches."""
        return self.iteration // self.accum_grad


class Accelerator(ABC):
    """One way to train for less.

    Attributes:
        losses: names of the losses that it works with; None: all.
        excludes: names of accelerators that it does not go together with.
        private: parameters and buffers of its own, made by `attach` on the model's device. The
            optimizer trains them; no state dict of the model has them.
    """

    losses: ClassVar[tuple[str, ...] | None] = None
    excludes: ClassVar[tuple[str, ...]] = ()
    private: nn.Module | None = None

    @abstractmethod
    def attach(self, host: Host) -> None:
        """Changes how the model trains, never its state dict.

        Raises:
            ValueError: the model or the stage is none that this accelerator works with.
        """

    def before_batch(self, progress: Progress) -> None:  # noqa: B027  (nothing, by default)
        """Called before every training batch, with its place in the stage."""

    def after_epoch(self, loss: float, fraction: float) -> None:  # noqa: B027
        """Called after an epoch's training, before its state is saved.

        Args:
            loss: mean training loss of the epoch, the same in all processes.
            fraction: of the stage that is done.
        """

    def attach_optimizers(self, optimizers: Sequence[torch.optim.Optimizer]) -> None:  # noqa: B027
        """Called once, after `attach`, with the optimizers of the model's parameters."""

    def loss_term(self, batch: Mapping[str, Any], weight: Tensor) -> Tensor | None:
        """What is added to the loss of a training batch, after the model's forward; None: nothing.

        Args:
            batch: what the model was called with.
            weight: what its loss was divided by; a sum over frames divided by it counts as much
                beside the loss, whether a stage divides by sequences, frames or labels.
        """
        return None

    def strength(self) -> dict[str, float]:
        """What the log shows of the batch's setting, by name."""
        return {}

    def mend_average(self, states: dict[str, Tensor]) -> None:  # noqa: B027
        """Called at the stage's end with each average of epochs; changes it in place.

        For what an average of plain models loses.
        """

    def state_dict(self) -> dict[str, Any]:
        """What a resume needs and the model's checkpoint does not hold: tensors and plain values.

        Empty: nothing. By default that of `private`.
        """
        return {} if self.private is None else dict(self.private.state_dict())

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes back what `state_dict` gave; the model's checkpoint is loaded before."""
        if self.private is not None:
            self.private.load_state_dict(state)


def seeded_generator(*parts: object) -> torch.Generator:
    """A generator on the CPU that is a function of what it is given, and of nothing else."""
    digest = hashlib.blake2b(" ".join(map(str, parts)).encode(), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "little"))


def stateless_generator(seed: int, progress: Progress, purpose: str) -> torch.Generator:
    """A generator that is a function of the stage's seed and the update alone.

    Nothing has to be saved for a resume, every process draws the same, and the model's own random
    numbers (dropout, SpecAugment) stay as they are without the accelerator.
    """
    return seeded_generator(seed, progress.epoch, progress.update, purpose)


def read_about(path: Path, command: str) -> dict[str, Any]:
    """What a command tells of the folder that it wrote.

    Args:
        path: of the JSON file, which it writes last.
        command: of espnet-progressive.

    Raises:
        ValueError: there is no such file.
    """
    if not path.is_file():
        raise ValueError(f"{path}: no such file; espnet-progressive {command} writes it")
    about: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return about
