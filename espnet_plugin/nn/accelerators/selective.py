"""`selective`: backward only for utterances that are still hard (arXiv 1910.00762, 2307.06440).

An utterance is kept with probability q^beta, where q is the share of the latest losses, per label,
that are below its own. beta 1 keeps half of them. Losses come from a forward pass without gradient,
so a step costs a forward more and half of a forward and backward less.

With a table of irreducible losses (`irreducible.py`), the share `keep` of a batch is kept whose
losses are furthest above them, without a draw. Of several processes each keeps that of its part.
"""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from espnet_plugin.nn.accelerators.base import Accelerator, Host, Progress, seeded_generator
from espnet_plugin.nn.accelerators.irreducible import IrreducibleLosses


class Selective(Accelerator):
    """Leaves out utterances of a training batch, easy ones more often.

    Args:
        beta: how strongly; 0 keeps all.
        history: how many of the latest losses are compared with.
        irreducible: folder of `espnet-progressive irreducible`, for RHO instead of both.
        keep: share of a batch that RHO trains on.

    Raises:
        ValueError: for other values.
    """

    losses = ("ctc", "viterbi", "full_sum", "lf_mmi")

    def __init__(
        self,
        beta: float = 1.0,
        history: int = 1024,
        irreducible: str | None = None,
        keep: float | None = None,
    ) -> None:
        if beta < 0:
            raise ValueError(f"beta must not be negative, got {beta}")
        if type(history) is not int or history < 1:
            raise ValueError(f"history is a number of utterances, at least 1; got {history}")
        if (irreducible is None) != (keep is None):
            raise ValueError(
                "irreducible, a folder, and keep, a share of a batch, go together; got "
                f"{irreducible!r} and {keep!r}"
            )
        if irreducible is not None and (beta, history) != (1.0, 1024):
            raise ValueError("irreducible losses choose by themselves; leave out beta and history")
        self._rho = (
            None if irreducible is None or keep is None else IrreducibleLosses(irreducible, keep)
        )
        self._keeps_all = keep == 1.0 if self._rho is not None else beta == 0
        self._beta = float(beta)
        self._latest: deque[float] = deque(maxlen=history)
        self._generator: torch.Generator | None = None
        self._seed = 0

    def attach(self, host: Host) -> None:
        """Wraps the model's forward."""
        if not hasattr(host.model, "criterion"):
            raise ValueError("it works with model progressive_transducer alone")
        if self._rho is not None:
            self._rho.attach(host)
        self._seed = host.seed
        self._recorder = LossRecorder(host.model.criterion)
        model, plain = host.model, host.model.forward

        @functools.wraps(plain)
        def forward(*args: Any, **batch: Any) -> Any:
            if not model.training or self._keeps_all or self._generator is None:
                return plain(*args, **batch)
            assert not args, "ESPnet's trainer names what it hands over"
            losses = self._score(model, plain, batch)
            if self._rho is not None:
                kept = self._rho.chosen(losses, list(batch["utt_id"]))
            else:
                kept = self.draw(losses)
            loss, stats, weight = plain(**select_rows(batch, kept))
            share = kept.float().mean().to(weight).reshape(weight.shape)
            stats = {**stats, "selective_kept": share}
            return loss, stats, weight

        model.forward = forward

    def _score(self, model: nn.Module, plain: Callable[..., Any], batch: Mapping[str, Any]) -> Any:
        """Loss per label of each utterance, [B]."""
        with torch.no_grad(), _unchanged_buffers(model), self._recorder as recorder:
            plain(**batch)
        return recorder.per_label(batch["text_lengths"])

    def before_batch(self, progress: Progress) -> None:
        """Seeds the draw by the batch."""
        rank = torch.distributed.get_rank() if torch.distributed.is_initialized() else 0
        place = (progress.epoch, progress.iteration, rank)
        self._generator = seeded_generator(self._seed, "selective", *place)

    def draw(self, losses: Tensor) -> Tensor:
        """Which utterances are kept, [B] bool on the CPU, at least one; remembers the losses."""
        own = losses.detach().double().cpu()
        for values in _of_all_processes(own.tolist()):
            self._latest.extend(values)
        known = torch.tensor(list(self._latest), dtype=torch.float64).sort().values
        below = torch.searchsorted(known, own) + torch.searchsorted(known, own, right=True)
        share = below / (2.0 * len(known))  # of equal losses half count as below
        kept = torch.rand(len(own), generator=self._generator) < share**self._beta
        if not kept.any():
            kept[own.argmax()] = True
        return kept

    def state_dict(self) -> dict[str, Any]:
        """The latest losses; none where a table of losses chooses."""
        return {} if self._rho is not None else {"latest": list(self._latest)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes back what `state_dict` gave."""
        self._latest.clear()
        self._latest.extend(state.get("latest", ()))


class LossRecorder:
    """Sees a criterion's losses of single rows; while it is entered, remembers them."""

    def __init__(self, criterion: Any) -> None:
        self._found: tuple[Tensor, Any] | None = None
        self._listens = False
        plain = criterion.normalize

        def normalize(losses: Tensor, batch: Any, used: Tensor | None = None) -> Tensor:
            if self._listens and self._found is None:  # what comes later are terms beside the loss
                self._found = losses, batch.utterance
            value: Tensor = plain(losses, batch, used)
            return value

        criterion.normalize = normalize

    def __enter__(self) -> LossRecorder:
        self._listens, self._found = True, None
        return self

    def __exit__(self, *error: object) -> None:
        self._listens = False

    def per_label(self, labels: Tensor, impossible: float = 0.0) -> Tensor:
        """[B] sums of the rows that belong to each utterance, over its numbers of labels [B].

        Args:
            impossible: what counts for a row without a finite loss.
        """
        assert self._found is not None, "the criterion does not normalise its loss"
        losses, utterance = self._found
        losses = losses.masked_fill(~torch.isfinite(losses), impossible)
        if utterance is None:
            sums = losses.view(-1, len(labels)).sum(0)  # view after view, where there are several
        else:
            sums = losses.new_zeros(len(labels))
            sums = sums.index_add(0, utterance.to(losses.device), losses)
        return sums / labels.clamp(min=1)


def select_rows(batch: Mapping[str, Any], kept: Tensor) -> dict[str, Any]:
    """The rows of a batch that `kept` [B] says, without what only the others' length needs."""
    count = len(kept)
    chosen: dict[str, Any] = {}
    for name, value in batch.items():
        if isinstance(value, Tensor) and value.dim() and len(value) == count:
            chosen[name] = value[kept.to(value.device)]
        elif isinstance(value, Sequence) and not isinstance(value, str) and len(value) == count:
            chosen[name] = [item for item, keep in zip(value, kept.tolist(), strict=True) if keep]
        else:
            chosen[name] = value
    for name in [name for name in chosen if f"{name}_lengths" in chosen]:
        chosen[name] = chosen[name][:, : int(chosen[f"{name}_lengths"].max())]
    return chosen


@contextmanager
def _unchanged_buffers(model: nn.Module) -> Iterator[None]:
    """Running statistics and counters of steps are in the end what they were."""
    kept = [(buffer, buffer.clone()) for buffer in model.buffers()]
    try:
        yield
    finally:
        for buffer, value in kept:
            buffer.copy_(value)


def _of_all_processes(values: list[float]) -> list[list[float]]:
    """The losses of every process, in their order, so that all remember the same."""
    if not torch.distributed.is_initialized():
        return [values]
    gathered: list[Any] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(gathered, values)
    return gathered
