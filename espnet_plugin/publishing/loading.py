"""From a place to the keyword arguments of `Speech2Text`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from espnet_plugin.publishing.package import CONFIG, META, MODEL, read_mapping
from espnet_plugin.publishing.sources import find_model, open_package
from espnet_plugin.publishing.view import loadable
from espnet_plugin.publishing.weights import read_weights

#: Arguments of ESPnet's packages that our Speech2Text takes too.
_LM_FILES = ("lm_train_config", "lm_file", "ngram_file")


def pretrained_arguments(source: str | Path, cache: Path | None = None) -> dict[str, Any]:
    """Configuration, model file and, from a package, the search's options.

    Args:
        source: see `espnet_plugin.publishing.sources`.
        cache: where packages are unpacked; default: the user's cache.

    Raises:
        ValueError: nothing is there, or it is damaged, incomplete or unsafe.
    """
    path = Path(str(source)).expanduser()
    bare = path.suffix == ".pth" or (path.is_dir() and not (path / META).is_file())
    if bare:
        found = find_model(str(source))
        return {CONFIG: str(found.train_config), MODEL: str(found.model_file)}
    package = loadable(open_package(source, cache), cache)
    read_weights(package.model_file)
    named = {**package.yaml_files, **package.files}
    given = {name: str(package.root / named[name]) for name in _LM_FILES if name in named}
    if package.decoding is not None:
        given = read_mapping(package.decoding)
    return {CONFIG: str(package.train_config), MODEL: str(package.model_file), **given}
