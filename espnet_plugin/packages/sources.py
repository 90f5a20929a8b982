"""Where models come from: a packed zip file, a folder, a stage's experiment, the Hub, an address.

exp/train_progressive_raw_char             an experiment: its last finished train stage
exp/train_progressive_raw_char/full_sum    one train stage, or any ESPnet experiment
exp/.../valid.loss.ave.pth                 one model file, config.yaml beside it
model.zip, https://.../model.zip           a packed model
folder with meta.yaml                      the same, unpacked
owner/name, owner/name@revision            the same, on the Hugging Face Hub
"""

from __future__ import annotations

import functools
import hashlib
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from espnet_plugin.corpora.disk_space import require_space
from espnet_plugin.corpora.download import discard, download, public_address, sha256_of
from espnet_plugin.packages.archive import DEFAULT_LIMITS, extract
from espnet_plugin.packages.cache import cache_folder
from espnet_plugin.packages.inspection import inspect
from espnet_plugin.packages.package import META, Package, read_mapping, read_package
from espnet_plugin.packages.view import loadable

HUB = "https://huggingface.co/"
_HUB_ID = re.compile(r"^\w[\w.-]*/\w[\w.-]*(@[\w./-]+)?$")
PIPELINE_STATE = "pipeline.json"


@dataclass(frozen=True)
class TrainedModel:
    """A model file and the configuration of its training."""

    model_file: Path
    train_config: Path


def is_source(text: str) -> bool:
    """Whether a text is a place of a model, and not the name of a train stage."""
    return "/" in text or text.endswith((".zip", ".pth")) or (Path(text) / META).is_file()


def open_package(source: str | Path, cache: Path | None = None) -> Package:
    """The package at a place.

    Args:
        source: see the module's docstring.
        cache: where zip files are unpacked; default: `cache_folder`. What the Hub's client
            fetches is in its own cache.

    Raises:
        ValueError: nothing is there, or it is no package, is damaged, or is unsafe to unpack.
    """
    text = str(source)
    path = Path(text).expanduser()
    if path.is_dir():
        return _inspected(path.resolve())
    if path.is_file():
        return _unpacked(path, cache)
    if text.startswith(HUB) and not text.endswith(".zip"):
        text = text.removeprefix(HUB).strip("/")
    if "://" in text:
        return _from_address(text, cache)
    if _HUB_ID.match(text) and not text.endswith((".zip", ".pth")):
        return _inspected(_from_hub(text))
    raise ValueError(f"{source}: no such file or folder, and no Hub id (owner/name@revision)")


@functools.lru_cache(maxsize=32)
def find_model(source: str) -> TrainedModel:
    """The model at a place; see the module's docstring.

    Raises:
        ValueError: nothing is there, or what is there has no model.
    """
    path = Path(source).expanduser()
    if path.is_file() and path.suffix == ".pth":
        return TrainedModel(path, path.parent / "config.yaml")
    if path.is_dir() and not (path / META).is_file():
        if (path / PIPELINE_STATE).is_file():
            return stage_model(path, finished_stages(path)[-1])
        return TrainedModel(stage_checkpoint(path), path / "config.yaml")
    package = loadable(open_package(source))
    return TrainedModel(package.model_file, package.train_config)


def finished_stages(exp: Path) -> list[str]:
    """Names of the train stages that an experiment has finished, in their order.

    Raises:
        ValueError: none is finished.
    """
    state = read_mapping(exp / PIPELINE_STATE)  # JSON is YAML
    steps = state.get("steps") or {}
    names = [
        str(name).removeprefix("train:")
        for name in state.get("plan") or []
        if name.startswith("train:") and (steps.get(name) or {}).get("status") == "done"
    ]
    if not names:
        raise ValueError(f"{exp}: no train stage of this experiment is finished")
    return names


def stage_model(exp: Path, stage: str) -> TrainedModel:
    """The model that a finished stage hands on.

    Raises:
        ValueError: the stage is not finished, or its model is gone.
    """
    finished = finished_stages(exp)
    if stage not in finished:
        raise ValueError(f"{exp}: stage {stage} is not finished; finished: {', '.join(finished)}")
    step = read_mapping(exp / PIPELINE_STATE)["steps"][f"train:{stage}"]
    folder = exp / stage
    name = step.get("checkpoint")  # not noted by version 0.1.0 and earlier
    model = folder / name if name else stage_checkpoint(folder)
    if not model.is_file():
        raise ValueError(f"{model}: no such file, though stage {stage} is finished")
    return TrainedModel(model, folder / "config.yaml")


def stage_checkpoint(folder: Path) -> Path:
    """The averaged model of an ESPnet experiment, by the criterion that its training selected on.

    Raises:
        ValueError: there is no configuration or no averaged model, or several fit.
    """
    if not (folder / "config.yaml").is_file():
        raise ValueError(
            f"{folder}: neither an experiment (config.yaml) nor a packed model (meta.yaml)"
        )
    config: Mapping[str, object] = read_mapping(folder / "config.yaml")
    criteria: object = config.get("best_model_criterion")
    for criterion in criteria if isinstance(criteria, list) else ():
        path = folder / f"{criterion[0]}.{criterion[1]}.ave.pth"
        if path.is_file():
            return path
    others = sorted(folder.glob("*.ave.pth"))
    if len(others) != 1:
        found = ", ".join(path.name for path in others) or "none"
        raise ValueError(
            f"{folder}: which model? averaged models there: {found}; name the file itself"
        )
    return others[0]


def _unpacked(archive: Path, cache: Path | None) -> Package:
    """The archive's content, named by its checksum: unpacked once, whatever its name and place."""
    if archive.suffix != ".zip":
        raise ValueError(f"{archive}: not a zip file; packages are made by espnet-progressive pack")
    folder = (cache or cache_folder()) / "packages" / sha256_of(archive)[:32]
    if not folder.is_dir():
        extract(archive, folder)
    try:
        return _inspected(folder)
    except ValueError as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise ValueError(f"{archive}: {error}") from error


def _inspected(folder: Path) -> Package:
    package = read_package(folder)
    inspect(package)
    return package


def _from_address(address: str, cache: Path | None) -> Package:
    """Fetched once; what is refused is removed, else every later call would refuse it again."""
    target = cache_folder() / "downloads" / _cache_name(address)
    shown = public_address(address)
    try:
        download(address, target, largest=DEFAULT_LIMITS.unpacked)
    except OSError as error:
        raise ValueError(f"{shown}: cannot be fetched: {error}") from error
    try:
        return _unpacked(target, cache)
    except ValueError as error:
        discard(target)
        raise ValueError(f"{shown}: what came was removed: {error}") from error


def _cache_name(address: str) -> str:
    """Readable, without the query, and yet another one for every address."""
    place = public_address(address).partition("://")[2].removesuffix("?...").removesuffix(".zip")
    mark = hashlib.sha256(address.encode()).hexdigest()[:12]
    return f"{re.sub(r'[^\w.-]', '_', place)[-100:]}-{mark}.zip"


def _from_hub(text: str) -> Path:
    """Folder of a repository's snapshot in the Hub client's cache."""
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.constants import HF_HUB_CACHE
        from huggingface_hub.errors import DryRunError, HfHubHTTPError, LocalEntryNotFoundError
    except ImportError:
        raise ValueError(f"{text}: pip install huggingface_hub to read from the Hub") from None
    name, _, revision = text.partition("@")
    given: dict[str, Any] = {"revision": revision or None, "library_name": "espnet"}
    try:
        try:
            coming = snapshot_download(name, dry_run=True, **given)
        except DryRunError:  # no way to the Hub, as on a node without network: what is here already
            return Path(snapshot_download(name, local_files_only=True, **given))
        size = sum(file.file_size for file in coming if file.will_download)
        if len(coming) > DEFAULT_LIMITS.members or size > DEFAULT_LIMITS.unpacked:
            raise ValueError(f"{text}: refused: {len(coming)} files of {size} bytes")
        require_space(Path(HF_HUB_CACHE), size, f"download of {text}")
        return Path(snapshot_download(name, **given))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise ValueError(
            f"{text}: not a file here, and the Hub does not give it ({error}); check the name and "
            "revision, and log in (hf auth login) for a private one"
        ) from error
