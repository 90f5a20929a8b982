"""Accelerators' private state in a stage's folder, in step with ESPnet's checkpoint.

The file holds two epochs, the one that is about to be saved and the one before. So it has what
belongs to the checkpoint, whichever of the two epochs a kill leaves there (checkpoints.py).
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import torch

from espnet_plugin.corpora.atomic import save_atomically
from espnet_plugin.nn.accelerators.attached import AttachedAccelerators

FILE = "accelerators.pth"


def save(folder: Path, accelerators: AttachedAccelerators, epoch: int) -> None:
    """Called before the checkpoint of `epoch` is written; no file where there is nothing to keep.

    Raises:
        ValueError: the file is damaged.
    """
    state = accelerators.state_dict()
    if not state:
        return
    path = folder / FILE
    old = read(folder) if epoch > 1 and path.exists() else {}
    kept = {n: s for n, s in old.items() if n == epoch - 1}
    save_atomically(path, lambda stream: torch.save({**kept, epoch: state}, stream))


def load(folder: Path, accelerators: AttachedAccelerators, epoch: int) -> None:
    """Gives accelerators the private state that belongs to the checkpoint of `epoch`.

    Raises:
        ValueError: there is none, or it is of other accelerators.
    """
    if not accelerators.state_dict():
        return
    states = read(folder)
    path = folder / FILE
    if epoch not in states:
        raise ValueError(
            f"{path}: the checkpoint is of epoch {epoch}, but the accelerators' state is of "
            f"{', '.join(map(str, states)) or 'none'}; bring back the whole folder of the stage, "
            "or move it aside to train the stage anew"
        )
    try:
        accelerators.load_state_dict(states[epoch])
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def mend_averages(folder: Path, accelerators: AttachedAccelerators) -> None:
    """Hands accelerators the averages of epochs that ESPnet has made in a stage's folder."""
    if not accelerators.mend_averages:
        return
    for path in sorted(folder.glob("*.ave*.pth")):
        if path.is_symlink():  # to one of them, or to the only epoch
            continue
        states = torch.load(path, "cpu", weights_only=True)
        accelerators.mend_average(states)
        save_atomically(path, functools.partial(torch.save, states))


def read(folder: Path) -> dict[int, dict[str, Any]]:
    """Private state by epoch.

    Raises:
        ValueError: the file is missing or damaged.
    """
    path = folder / FILE
    try:
        states: dict[int, dict[str, Any]] = torch.load(path, "cpu", weights_only=True)
    except FileNotFoundError as error:
        raise ValueError(
            f"{path}: no such file, and the checkpoint beside it was trained with accelerators; "
            "bring it back, or move the folder aside to train the stage anew"
        ) from error
    except Exception as error:  # torch raises many kinds for a damaged file
        raise ValueError(
            f"{path}: cannot be read ({error}); bring back a whole copy of the folder, or move it "
            "aside to train the stage anew"
        ) from error
    return states
