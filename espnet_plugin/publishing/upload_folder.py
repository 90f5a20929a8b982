"""The exact folder that goes to the Hub: the package's files, the card and its figure."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from espnet_plugin.publishing.model_card import FIGURE, CardOptions, model_card
from espnet_plugin.publishing.model_card_facts import read_facts
from espnet_plugin.publishing.model_card_figure import write_figure
from espnet_plugin.publishing.package import Package

CARD = "README.md"


def write_folder(package: Package, options: CardOptions, target: Path) -> list[Path]:
    """Make the folder; large files are hard links where the file system allows it.

    Args:
        package: what is published.
        options: what its card needs to know.
        target: the folder, which must be empty or not exist.

    Returns:
        The files, relative to `target`, sorted.

    Raises:
        ValueError: `target` has something in it, or a file of the package is malformed.
    """
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise ValueError(f"{target}: exists and is not empty; remove it, or name another --folder")
    facts = read_facts(package)
    target.mkdir(parents=True, exist_ok=True)
    for source in sorted(package.root.rglob("*")):
        if source.is_file():
            _place(source, target / source.relative_to(package.root))
    figure = write_figure(facts, target / FIGURE)
    (target / CARD).write_text(model_card(facts, options, figure=figure), encoding="utf-8")
    return files_of(target)


def files_of(folder: Path) -> list[Path]:
    """All files of a folder, relative to it, sorted."""
    return sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())


def _place(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    # A card or figure of an earlier upload must not be written through a link into the package.
    if target.name in (CARD, FIGURE):
        shutil.copyfile(source, target)
        return
    try:
        os.link(source.resolve(), target)  # the Hub client's cache holds links
    except OSError:
        shutil.copyfile(source, target)
