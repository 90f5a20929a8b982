"""From a place to the keyword arguments of `Speech2Text`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from espnet_plugin.data.decode_files import BOUNDARIES, BOUNDARY_FOLDER
from espnet_plugin.data.lm_spec import BOUNDARY_OPTION
from espnet_plugin.packages.elsewhere import reachable
from espnet_plugin.packages.imports import require_imported
from espnet_plugin.packages.package import CONFIG, META, MODEL
from espnet_plugin.packages.plain_yaml import read_plain
from espnet_plugin.packages.sources import find_model, open_package
from espnet_plugin.packages.view import loadable

#: Arguments of ESPnet's packages that our Speech2Text takes too.
_LM_FILES = ("lm_train_config", "lm_file", "ngram_file")
#: Options of `decode` about what it writes; Speech2Text has no use for them.
OUTPUT_OPTIONS = ("word_times", "feature_shift")


@dataclass(frozen=True)
class Pretrained:
    """A model ready to be loaded.

    Attributes:
        model_file, train_config: config.yaml stands beside the model.
        options: of the search, by name; files with absolute paths.
        decoding: the same as a YAML file; None if the place has none.
        stage: the train stage it comes from; None if the package does not say.
        root: folder of the package; None for an experiment.
    """

    model_file: Path
    train_config: Path
    options: dict[str, Any]
    decoding: Path | None = None
    stage: str | None = None
    root: Path | None = None


def find_pretrained(source: str | Path, cache: Path | None = None) -> Pretrained:
    """The model at a place.

    Args:
        source: see `espnet_plugin.packages.sources`.
        cache: where packages are unpacked; default: the user's cache.

    Raises:
        ValueError: nothing is there, it is damaged, incomplete or unsafe, or it needs a module of
            another package that nobody has imported.
    """
    path = Path(str(source)).expanduser()
    if path.suffix == ".pth" or (path.is_dir() and not (path / META).is_file()):
        found = find_model(str(source))
        stage = found.model_file.parent.name
        boundaries = found.model_file.absolute().parents[1] / BOUNDARY_FOLDER / BOUNDARIES
        timing = {BOUNDARY_OPTION: str(boundaries)} if boundaries.is_file() else {}
        found = reachable(found, cache)
        return Pretrained(found.model_file, found.train_config, timing, stage=stage)
    package = loadable(open_package(source, cache), cache)
    require_imported(package.imports, str(source))
    named = {**package.yaml_files, **package.files}
    options = {name: str(package.root / named[name]) for name in _LM_FILES if name in named}
    if package.decoding is not None:
        options = read_plain(package.decoding)
    trained = package.extra.get("stage")
    return Pretrained(
        package.model_file,
        package.train_config,
        options,
        package.decoding,
        None if trained is None else str(trained),
        package.root,
    )


def pretrained_arguments(source: str | Path, cache: Path | None = None) -> dict[str, Any]:
    """Keyword arguments of `Speech2Text`: configuration, model, the search's options.

    Raises:
        ValueError: see `find_pretrained`.
    """
    found = find_pretrained(source, cache)
    options = {name: value for name, value in found.options.items() if name not in OUTPUT_OPTIONS}
    return {**options, CONFIG: str(found.train_config), MODEL: str(found.model_file)}
