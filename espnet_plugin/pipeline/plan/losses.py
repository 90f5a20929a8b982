"""The losses that a train stage may name, and what a plan has to know of each.

A plan needs the data of a loss before anything is trained, on machines that would rather not import
torch for it. So the losses of this package stand here with the place of their class, which is
imported at first use, and their classes take from here what they need. A loss of another package is
a class already when it is registered (docs/extending.md); what it needs is read from the class.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from espnet_plugin.corpora.strict_parser import nearest

#: Data that the pipeline makes, by a job of this name; a stage takes one of them.
JOB_DATA = ("alignment", "nbest")


@dataclass(frozen=True)
class Loss:
    """One loss.

    Attributes:
        place: ``module:Class``, or the class itself.
        needs: data that a batch must bring besides speech and text.
        option_needs: option of ``loss_conf`` -> data needed as well where it is set.
        searches_encoder: it trains the encoder's output layer alone, not the transducer.
        pretrains: it trains the encoder alone, and on speech without transcripts.
        option_files: options of ``loss_conf`` that name a file.
    """

    place: str | type
    needs: tuple[str, ...] = ()
    option_needs: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    searches_encoder: bool = False
    pretrains: bool = False
    option_files: tuple[str, ...] = ()

    def files_of(self, options: Mapping[str, Any]) -> list[Path]:
        """Files that these options (``loss_conf``) name."""
        return [Path(options[name]) for name in self.option_files if options.get(name)]

    def needs_with(self, options: Mapping[str, Any]) -> tuple[str, ...]:
        """All data needed with these options (``loss_conf``)."""
        more = [data for name, data in self.option_needs.items() if options.get(name)]
        return tuple(dict.fromkeys([*self.needs, *(name for data in more for name in data)]))

    @property
    def every_need(self) -> tuple[str, ...]:
        """All data needed with any options."""
        return self.needs_with(dict.fromkeys(self.option_needs, True))

    def load(self) -> type:
        """The class."""
        if isinstance(self.place, type):
            return self.place
        module, _, name = self.place.partition(":")
        loaded: type = getattr(importlib.import_module(module), name)
        return loaded


_HERE = "espnet_plugin.models.criteria"
BUILT_IN: Mapping[str, Loss] = {
    "best_rq": Loss(f"{_HERE}.masked:BestRQCriterion", pretrains=True),
    "masked_spectrogram": Loss(f"{_HERE}.masked:MaskedSpectrogramCriterion", pretrains=True),
    "ctc": Loss(
        f"{_HERE}.ctc:CTCCriterion",
        option_needs={"variants": ("variants",)},
        searches_encoder=True,
    ),
    "viterbi": Loss(f"{_HERE}.viterbi:ViterbiCriterion", needs=("alignment",)),
    "full_sum": Loss(f"{_HERE}.full_sum:FullSumCriterion", option_needs={"band": ("alignment",)}),
    "lf_mmi": Loss(f"{_HERE}.lf_mmi:LFMMICriterion", option_files=("bigram",)),
    "mbr": Loss(f"{_HERE}.mbr:MBRCriterion", needs=("nbest", "nbest_lm", "nbest_risk")),
}
_losses: dict[str, Loss] = dict(BUILT_IN)


def register_loss(name: str, criterion: type) -> None:
    """Make ``loss: name`` train with ``criterion``; its options are the constructor's.

    Args:
        name: as ESPnet compares names, in lower case.
        criterion: derived from `espnet_plugin.extend.Criterion`; its attributes ``needs``,
            ``option_needs``, ``searches_encoder``, ``pretrains`` and ``option_files`` tell the
            pipeline of it.

    Raises:
        ValueError: another class has this name, or it is no criterion.
    """
    key = name.lower()
    needs = getattr(criterion, "needs", None)
    if not isinstance(criterion, type) or not isinstance(needs, tuple):
        raise ValueError(
            f"loss {name!r}: register a class derived from espnet_plugin.extend.Criterion, whose "
            f"needs is a tuple of names; got {criterion!r}"
        )
    if key in _losses and _losses[key].place is not criterion:
        raise ValueError(f"the loss {key!r} is {_losses[key].place} already; take another name")
    _losses[key] = Loss(
        criterion,
        needs,
        getattr(criterion, "option_needs", {}),
        getattr(criterion, "searches_encoder", False),
        getattr(criterion, "pretrains", False),
        getattr(criterion, "option_files", ()),
    )


def loss_names() -> tuple[str, ...]:
    """All registered losses, this package's first."""
    return tuple(_losses)


def data_names() -> tuple[str, ...]:
    """All data that a registered loss may need besides speech and text."""
    return tuple(dict.fromkeys(name for loss in _losses.values() for name in loss.every_need))


def find_loss(name: str) -> Loss:
    """The loss of a name.

    Raises:
        ValueError: there is none.
    """
    found = _losses.get(name.lower())
    if found is None:
        raise ValueError(
            f"unknown loss {name!r}{nearest(name, loss_names())}; known: "
            f"{', '.join(loss_names())}; one of another package needs its module under imports: "
            "in the pipeline's YAML, or --imports MODULE"
        )
    return found
