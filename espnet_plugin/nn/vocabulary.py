"""A model's parameters for a longer list of labels (IncCTR, arXiv 2009.02147, section 3).

Rows that belong to a label are found by its name, wherever it stands in the new list. A new label
starts as the mean of the labels that there were, with the smallest of their biases.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

#: Prefixes of what has a row for each label.
ROWS = (
    "ctc.ctc_lo.",
    "intermediate_output.",
    "joint_network.output.",
    "decoder.prediction.embedding.",
)


def extend_vocabulary(
    states: Mapping[str, Tensor], old: Sequence[str], new: Sequence[str]
) -> dict[str, Tensor]:
    """A state dict for the tokens `new`.

    Args:
        states: for the tokens `old`; blank is the first, as everywhere.
        old: its tokens.
        new: all of `old` and more, in any order with blank first.

    Raises:
        ValueError: `new` lacks a token of the model, or moves blank.
    """
    places = places_of(old, new)
    if not new or new[0] != old[0]:
        raise ValueError(f"the token list has to begin with {old[0]!r}, as the model's does")
    rows = torch.full((len(new),), -1)
    rows[places] = torch.arange(len(old))
    # what is no label: blank, and the token that ESPnet puts last
    labels = [n for n, token in enumerate(old) if n and token != "<sos/eos>"]
    return {
        name: _extended(value, rows, labels, len(old)) if name.startswith(ROWS) else value
        for name, value in states.items()
    }


def places_of(old: Sequence[str], new: Sequence[str]) -> Tensor:
    """Where each token of `old` stands in `new`, [V_old].

    Raises:
        ValueError: it stands nowhere.
    """
    places = {token: number for number, token in enumerate(new)}
    missing = [token for token in old if token not in places]
    if missing:
        raise ValueError(f"the token list lacks labels of the model: {', '.join(missing[:9])}")
    return torch.tensor([places[token] for token in old], dtype=torch.long)


def _extended(value: Tensor, rows: Tensor, labels: Sequence[int], count: int) -> Tensor:
    """Rows [V, ...] of the old tokens -> [V', ...]; -1 in `rows` [V'] stands for a new label."""
    if len(value) != count:
        raise ValueError(f"{len(value)} rows for {count} tokens; is it the model's own token list?")
    known = value[list(labels)]
    start = known.min() if value.dim() == 1 else known.mean(0)
    extended = value[rows.clamp(min=0)].clone()
    extended[rows < 0] = start
    return extended
