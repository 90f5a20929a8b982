"""An experiment used from another folder than its recipe's.

ESPnet's configurations name files relative to the recipe's folder (``exp/stats/feats_stats.npz``).
A program that stands elsewhere gets a copy of the configuration in the user's cache, with these
paths made absolute, and the model linked beside it.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import yaml

from espnet_plugin.corpora.atomic import write_atomically
from espnet_plugin.packages.cache import cache_folder
from espnet_plugin.packages.package import FILE_KEYS, read_mapping
from espnet_plugin.packages.portable import replace_members
from espnet_plugin.packages.sources import TrainedModel
from espnet_plugin.packages.view import strings


def reachable(model: TrainedModel, cache: Path | None = None) -> TrainedModel:
    """The same model with a configuration whose files are found from the current folder.

    Args:
        model: of an experiment.
        cache: for the copy; default: the user's cache.

    Raises:
        ValueError: a file that the configuration names is nowhere above the experiment.
    """
    config = read_mapping(model.train_config)
    named = {value for key, value in strings(config) if key in FILE_KEYS and value}
    missing = sorted(value for value in named if not Path(value).exists())
    if not missing:
        return model
    found = {value: str(_locate(model.train_config, value)) for value in missing}
    text = yaml.safe_dump(replace_members(config, found), allow_unicode=True)
    target = model.model_file.resolve()
    mark = hashlib.sha256(f"{target}\n{text}".encode()).hexdigest()[:32]
    folder = (cache or cache_folder()) / "experiments" / mark
    write_atomically(folder / "config.yaml", text)
    link = folder / "model.pth"
    link.unlink(missing_ok=True)
    link.symlink_to(target)
    return TrainedModel(link, folder / "config.yaml")


def _locate(config: Path, name: str) -> Path:
    """The file of this relative name in the recipe's folder, which is one above the experiment."""
    for folder in config.resolve().parents:
        if (folder / name).exists():
            return folder / name
    raise ValueError(
        f"{config}: names {name}, which is neither here nor in a folder above the experiment; "
        "call from the recipe's folder, or pack the model (espnet-progressive pack)"
    )
