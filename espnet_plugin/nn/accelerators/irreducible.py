"""Losses that another model could not bring down, for `selective` (RHO, arXiv 2206.07137).

Of a batch the utterances are trained on whose loss per label is furthest above what a model that
saw other data has: these are learnable and not learnt. What is hard for both is noise.
`espnet-progressive irreducible` writes the table once, so that no second model is in memory.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from espnet_plugin.corpora.text_lines import read_lines
from espnet_plugin.nn.accelerators.base import Host, read_about

#: Files of a folder: lines `utterance LOSS`, natural logarithm, per label; and what made them.
LOSSES, ABOUT = "losses", "losses.json"


class IrreducibleLosses:
    """Chooses by the difference.

    Args:
        folder: that the command wrote.
        keep: share of a batch that is trained on, above 0 and at most 1.

    Raises:
        ValueError: for another share.
    """

    def __init__(self, folder: str, keep: float) -> None:
        if isinstance(keep, bool) or not 0.0 < keep <= 1.0:
            raise ValueError(f"keep is a share of a batch, above 0 and at most 1; got {keep}")
        self._path, self.keep = Path(folder) / LOSSES, float(keep)
        self._losses: dict[str, float] = {}
        self._checked, self._views = True, 1

    def attach(self, host: Host) -> None:
        """Reads the table.

        Raises:
            ValueError: it is of another loss or other labels, or lacks training utterances.
        """
        path = self._path.parent / ABOUT
        about = read_about(path, "irreducible")
        model: Any = host.model
        if about["loss"] != host.loss:
            raise ValueError(
                f"{path}: losses of {about['loss']}, and this stage trains "
                f"{host.loss}; make them with a model of the same stage"
            )
        if list(about["labels"]) != list(model.token_list):
            raise ValueError(
                f"{path}: losses over {len(about['labels'])} labels, and this "
                f"model has {len(model.token_list)}, or others; take a model with the same ones"
            )
        if getattr(model.criterion, "chunking", None) is not None:
            raise ValueError(
                "irreducible losses are of whole utterances; set loss_conf: {chunk_size: 0} in "
                "this stage, or leave selective out here"
            )
        views = getattr(model.criterion, "views", None)
        self._views = 1 if views is None else views.count
        self._losses = read_losses(self._path.parent)
        self._checked = host.require_utterances(self._losses, self._path, "compute them all")

    def chosen(self, losses: Tensor, names: Sequence[str]) -> Tensor:
        """Which utterances are kept, [B] bool: keep * B of them, rounded, and at least one.

        Args:
            losses: per label, [B], sums over the criterion's views.
            names: of the utterances.
        """
        own = losses.detach().double().cpu() / self._views
        above = own - torch.tensor([self._of(name) for name in names], dtype=torch.float64)
        count = max(1, math.floor(self.keep * len(own) + 0.5))
        kept = torch.zeros(len(own), dtype=torch.bool)
        kept[above.argsort(descending=True, stable=True)[:count]] = True
        return kept

    def _of(self, name: str) -> float:
        found = self._losses.get(name)
        if found is None:
            if self._checked:
                raise ValueError(f"{self._path}: no loss of {name}")
            return 0.0  # a probe of the step's time has made-up utterances
        return found


def read_losses(folder: Path) -> dict[str, float]:
    """Utterance -> loss per label; infinite where no alignment exists.

    Raises:
        ValueError: the file is missing, or a line of it holds no loss.
    """
    found = {}
    for line in read_lines(folder / LOSSES):
        name, _, text = line.partition(" ")
        try:
            found[name] = float(text)
        except ValueError as error:
            raise ValueError(f"{folder / LOSSES}: {name}: {text!r} is no loss") from error
        if math.isnan(found[name]):
            raise ValueError(f"{folder / LOSSES}: {name}: {text!r} is no loss")
    return found
