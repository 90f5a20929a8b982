"""The exact folder that goes to the Hub: the package's files, the card and its figure."""

from __future__ import annotations

import logging
import os
import shutil
from pathlib import Path

from espnet_plugin.packages.package import Package
from espnet_plugin.publishing.model_card import FIGURE, CardOptions, model_card
from espnet_plugin.publishing.model_card_facts import read_facts
from espnet_plugin.publishing.model_card_figure import write_figure

CARD = "README.md"


def write_folder(
    package: Package, options: CardOptions, target: Path, *, link: bool = False
) -> list[Path]:
    """Make the folder. What begins with a dot is left out.

    Args:
        package: what is published.
        options: what its card needs to know.
        target: the folder, which must be empty or not exist.
        link: hard links in place of copies where the file system allows it, for a folder that
            nobody writes to.

    Returns:
        The files, relative to `target`, sorted.

    Raises:
        ValueError: `target` has something in it, or a file of the package is malformed.
    """
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise ValueError(f"{target}: exists and is not empty; remove it, or name another --folder")
    facts = read_facts(package)
    if not facts.scores.get("WER"):
        logging.warning(
            "%s: has no results, so the card tells none; score, pack again, then upload",
            package.root,
        )
    target.mkdir(parents=True, exist_ok=True)
    for name in files_of(package.root):
        if not any(part.startswith(".") for part in name.parts):
            _place(package.root / name, target / name, link)
    figure = write_figure(facts, target / FIGURE)
    (target / CARD).write_text(model_card(facts, options, figure=figure), encoding="utf-8")
    return files_of(target)


def files_of(folder: Path) -> list[Path]:
    """All files of a folder, relative to it, sorted."""
    return sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())


def _place(source: Path, target: Path, link: bool) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    # A card or figure of an earlier upload must not be written through a link into the package.
    if not link or target.name in (CARD, FIGURE):
        shutil.copyfile(source, target)
        return
    try:
        os.link(source.resolve(), target)  # the Hub client's cache holds links
    except OSError:
        shutil.copyfile(source, target)
