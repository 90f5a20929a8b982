"""Model files from outside: tensors, and nothing that could run."""

from __future__ import annotations

import pickle
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from espnet_plugin.data.kaldi_files import some


def read_weights(path: Path) -> Mapping[str, Any]:
    """The tensors of a model file, by name; not in memory until they are used.

    Raises:
        ValueError: damaged, or made to run code when it is loaded.
    """
    import torch

    try:
        states = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except pickle.UnpicklingError as error:
        reason = str(error).strip().splitlines()
        raise ValueError(
            f"{path}: refused: it holds more than tensors, and loading it could run code "
            f"({reason[-1] if reason else error})"
        ) from error
    except Exception as error:  # torch raises many kinds on damaged files
        raise ValueError(f"{path}: not a readable model file ({error}); fetch it again") from error
    if not isinstance(states, Mapping) or not all(torch.is_tensor(v) for v in states.values()):
        raise ValueError(f"{path}: not a table of tensors; expected the parameters of a model")
    return states


def check_names(path: Path, have: Iterable[str], want: Iterable[str]) -> None:
    """A model's parameters must all be there: ESPnet would leave the rest at random values.

    Raises:
        ValueError: naming parameters that the file lacks.
    """
    missing = sorted(set(want) - set(have))
    if missing:
        raise ValueError(
            f"{path}: lacks parameters of the model that its configuration describes: "
            f"{some(missing)}; fetch or pack it again"
        )
