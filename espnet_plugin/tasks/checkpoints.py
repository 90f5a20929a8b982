"""Making ESPnet's epoch checkpoints safe against a kill at any moment.

ESPnet's Trainer overwrites checkpoint.pth in place at the end of an epoch and then writes the
epoch's model and links. A process killed in between leaves a truncated checkpoint, or one whose
epoch lacks its model file, and the run cannot go on. Here the previous checkpoint is kept aside
until the epoch's files are complete; after a kill inside that window the epoch is trained again,
which gives the same result because ESPnet seeds every epoch anew.
"""

from __future__ import annotations

import logging
import os
import zipfile
from pathlib import Path

CHECKPOINT = "checkpoint.pth"
PREVIOUS = "checkpoint.prev.pth"


def is_complete(path: Path) -> bool:
    """True if `path` is a whole torch file (a zip archive writes its directory last)."""
    return path.is_file() and zipfile.is_zipfile(path)


def set_aside(output_dir: Path) -> None:
    """Called right before ESPnet writes an epoch: the last good checkpoint becomes PREVIOUS."""
    if is_complete(output_dir / CHECKPOINT):
        os.replace(output_dir / CHECKPOINT, output_dir / PREVIOUS)


def commit(output_dir: Path) -> None:
    """Called when an epoch's files are all written: PREVIOUS is not needed any more."""
    (output_dir / PREVIOUS).unlink(missing_ok=True)


def recover(output_dir: Path) -> bool:
    """Called before a resume: rolls back to PREVIOUS if the last epoch was not committed.

    Returns True if it did. Also removes a truncated checkpoint that has no predecessor.
    """
    previous, current = output_dir / PREVIOUS, output_dir / CHECKPOINT
    if previous.exists():
        os.replace(previous, current)
        logging.warning("%s: the last epoch was cut off while being saved; redoing it", current)
        return True
    if current.exists() and not is_complete(current):
        current.unlink()
        logging.warning("%s was cut off while being saved; starting over", current)
        return True
    return False
