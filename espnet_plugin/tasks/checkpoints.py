"""Making ESPnet's epoch checkpoints safe against a kill at any moment.

ESPnet's Trainer overwrites checkpoint.pth in place at the end of an epoch, then writes the epoch's
model, then its links. A process killed in between leaves a truncated checkpoint, or one whose
epoch has no model file for the final averaging to find, and the run cannot go on.

Here PREVIOUS marks that window, from the first epoch on: it holds the checkpoint of the epoch
before, or nothing while there is none. After a kill inside the window the epoch is kept if both of
its files are whole (its links are made here) and trained again if not, which gives the same result
because ESPnet seeds every epoch anew.
"""

from __future__ import annotations

import logging
import os
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from espnet2.train.reporter import Reporter

CHECKPOINT = "checkpoint.pth"
PREVIOUS = "checkpoint.prev.pth"


def is_complete(path: Path) -> bool:
    """True if `path` is a whole torch file (a zip archive writes its directory last)."""
    return path.is_file() and zipfile.is_zipfile(path)


def is_undamaged(path: Path) -> bool:
    """True if `path` is a whole torch file and all of its content is what was written; reads it."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip() is None
    except (OSError, zipfile.BadZipFile):
        return False


def model_file(epoch: int) -> str:
    """ESPnet's name of an epoch's model."""
    return f"{epoch}epoch.pth"


def set_aside(output_dir: Path, epoch: int) -> None:
    """Called right before ESPnet writes `epoch`: the last good checkpoint becomes PREVIOUS."""
    # What a former training in this folder left must not be taken for this epoch's model.
    (output_dir / model_file(epoch)).unlink(missing_ok=True)
    if is_complete(output_dir / CHECKPOINT):
        os.replace(output_dir / CHECKPOINT, output_dir / PREVIOUS)
    else:
        (output_dir / PREVIOUS).write_bytes(b"")


def commit(output_dir: Path) -> None:
    """Called when an epoch's files are all written: PREVIOUS is not needed any more."""
    (output_dir / PREVIOUS).unlink(missing_ok=True)


def recover(output_dir: Path, criteria: Iterable[Sequence[str]]) -> bool:
    """Called before a resume: completes the epoch that was being saved, or rolls back.

    Args:
        output_dir: of the training.
        criteria: ESPnet's ``best_model_criterion``, rows of phase, statistic and mode.

    Returns:
        True if the epoch is lost and has to be trained again.

    Raises:
        ValueError: the checkpoint was damaged at another time: more than this epoch is lost.
    """
    previous, current = output_dir / PREVIOUS, output_dir / CHECKPOINT
    if is_undamaged(current):
        if not previous.exists():
            return False  # no epoch was being saved
        if _link_last_epoch(output_dir, criteria):
            commit(output_dir)
            return False
    if is_undamaged(previous):
        os.replace(previous, current)
        logging.warning("%s: the last epoch was cut off while being saved; redoing it", current)
        return True
    begun = current.exists() or previous.exists()
    in_first_epoch = previous.exists() and previous.stat().st_size == 0
    epochs = sum(is_complete(path) for path in output_dir.glob("*epoch.pth"))
    if begun and epochs and not in_first_epoch:
        raise ValueError(
            f"{current}: cut off or damaged, not by a kill of this training; {epochs} finished "
            "epochs lie beside it. Bring back a whole copy of it, then give the same command "
            "again; or move the folder aside to train the stage anew"
        )
    current.unlink(missing_ok=True)
    previous.unlink(missing_ok=True)
    if begun:
        logging.warning("%s was cut off while being saved; starting over", current)
    return begun


def _link_last_epoch(output_dir: Path, criteria: Iterable[Sequence[str]]) -> bool:
    """Make ESPnet's links to the checkpoint's epoch; False if that epoch's model is not whole."""
    # mmap: the weights in the same file are not read
    states = torch.load(output_dir / CHECKPOINT, map_location="cpu", weights_only=True, mmap=True)
    reporter = Reporter()
    reporter.load_state_dict(states["reporter"])
    epoch = reporter.get_epoch()
    name = model_file(epoch)
    if not is_complete(output_dir / name):
        return False
    links = ["latest.pth"]
    for phase, key, mode in criteria:
        if reporter.has(phase, key) and reporter.get_best_epoch(phase, key, mode) == epoch:
            links.append(f"{phase}.{key}.best.pth")
    for link in links:
        (output_dir / link).unlink(missing_ok=True)
        (output_dir / link).symlink_to(name)
    return True
