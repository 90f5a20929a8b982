"""The pipeline's YAML: reading it, merging it, and separating our keys from ESPnet's.

Precedence, lowest first: ``base_config`` (a file) < ``base`` < ``train_stages.<name>`` < the
stage's command-line arguments (``--viterbi_args ...``, applied by ESPnet's own parser).

A pipeline YAML may say ``extends: FILE`` and then holds only what differs from that one; the file
of a ``base_config`` may itself name a ``base_config``. Paths are relative to the working directory
or else to the file they stand in.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from espnet_plugin.corpora.strict_parser import nearest
from espnet_plugin.packages.imports import module_names

#: Keys a pipeline YAML may have at the top.
TOP_KEYS = (
    "extends",
    "imports",
    "stage_scheduler",
    "stage_scheduler_conf",
    "base_config",
    "base",
    "train_stages",
    "alignment",
    "nbest",
)
#: Keys of a train stage that the pipeline consumes; everything else is ESPnet's.
PIPELINE_KEYS = (
    *("init_from", "checkpoint", "data"),
    *("max_steps", "hours", "reference_hours", "probe_iters"),
)


class _Loader(yaml.SafeLoader):
    """YAML 1.2 floats: plain PyYAML reads ``1e-4`` as a string, which ESPnet would pass on."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"),
    list("-+0123456789."),
)


@dataclass(frozen=True)
class PipelineConfig:
    """A pipeline YAML after merging; ``train_stages`` maps names to merged stage options."""

    path: Path
    stage_scheduler: str
    stage_scheduler_conf: Mapping[str, Any]
    train_stages: Mapping[str, Mapping[str, Any]]
    alignment: Mapping[str, Any] = field(default_factory=dict)
    nbest: Mapping[str, Any] = field(default_factory=dict)
    imports: tuple[str, ...] = ()


def read_value(text: str) -> Any:
    """A YAML text, such as ``1e-4``, ``true`` or ``{after: viterbi}``.

    Raises:
        yaml.YAMLError: it is none.
    """
    return yaml.load(text, Loader=_Loader)


def read_yaml(path: Path) -> dict[str, Any]:
    """Read one YAML mapping.

    Raises:
        ValueError: the file is missing, is no YAML, or is not a mapping.
    """
    if not path.is_file():
        raise ValueError(f"{path}: no such configuration file")
    try:
        data = read_value(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ValueError(f"{path}: not valid YAML: {error}") from error
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise ValueError(f"{path}: expected a mapping at the top, found {type(data).__name__}")
    return data


def deep_merge(base: Mapping[str, Any], override: Mapping[str, Any]) -> dict[str, Any]:
    """Merge nested mappings; ``override`` wins.

    When ``override`` chooses another class (``optim: nadam`` over ``optim: adam``), the
    ``optim_conf`` of ``base`` is dropped: its options belong to the class that is gone.
    """
    merged = copy.deepcopy(dict(base))
    for key, value in override.items():
        if f"{key}_conf" in merged and merged.get(key) != value:
            del merged[f"{key}_conf"]
    for key, value in override.items():
        old = merged.get(key)
        if isinstance(old, Mapping) and isinstance(value, Mapping):
            merged[key] = deep_merge(old, value)
        else:
            merged[key] = copy.deepcopy(value)
    return merged


def load_pipeline_config(path: Path) -> PipelineConfig:
    """Read and merge a pipeline YAML.

    Raises:
        ValueError: a file is missing or malformed, or a key is unknown.
    """
    raw = _read_pipeline(path, ())
    base = deep_merge(_read_base(raw.get("base_config"), path, ()), _mapping(raw, "base", path))
    stages = {
        str(name): deep_merge(base, options)
        for name, options in _mapping(raw, "train_stages", path).items()
    }
    if not stages:
        raise ValueError(f"{path}: train_stages is missing or empty; name at least one stage")
    return PipelineConfig(
        path=path,
        stage_scheduler=str(raw.get("stage_scheduler", "progressive")),
        stage_scheduler_conf=_mapping(raw, "stage_scheduler_conf", path),
        train_stages=stages,
        alignment=_mapping(raw, "alignment", path),
        nbest=_mapping(raw, "nbest", path),
        imports=module_names(raw.get("imports"), str(path)),
    )


def _read_pipeline(path: Path, above: tuple[Path, ...]) -> dict[str, Any]:
    """A pipeline YAML on top of the one that it extends, files it names read or made absolute."""
    raw = read_yaml(path)
    for key in raw:
        if key not in TOP_KEYS:
            hint = nearest(str(key), TOP_KEYS)
            raise ValueError(f"{path}: unknown key {key!r}{hint}; known: {', '.join(TOP_KEYS)}")
    stages = {}
    for name, options in _mapping(raw, "train_stages", path).items():
        if isinstance(options, str):
            options = read_yaml(_locate(options, path))
        if not isinstance(options, Mapping):
            raise ValueError(
                f"{path}: train_stages.{name} must be a mapping or the path of a YAML file, "
                f"found {options!r}"
            )
        stages[name] = options
    if stages:
        raw["train_stages"] = stages
    if raw.get("base_config"):
        raw["base_config"] = str(_locate(raw["base_config"], path).absolute())
    parent = raw.pop("extends", None)
    if parent is None:
        return raw
    target = _next(parent, path, above, "extends")
    merged = _read_pipeline(target, (*above, path.resolve()))
    # What the other file needs is needed here, too.
    named = ((merged, target), (raw, path))
    imports = [name for of, at in named for name in module_names(of.get("imports"), str(at))]
    return deep_merge(merged, {**raw, "imports": imports})


def _read_base(name: Any, parent: Path, above: tuple[Path, ...]) -> dict[str, Any]:
    """ESPnet options of a ``base_config``, on top of those of the file that it names in turn."""
    if not name:
        return {}
    path = _next(name, parent, above, "base_config")
    options = read_yaml(path)
    below = options.pop("base_config", None)
    return deep_merge(_read_base(below, path, (*above, path.resolve())), options)


def _next(name: Any, parent: Path, above: tuple[Path, ...], key: str) -> Path:
    """The file that ``key`` names in ``parent``; refuses a circle."""
    if not isinstance(name, str):
        raise ValueError(f"{parent}: {key} must be the path of a YAML file, found {name!r}")
    path = _locate(name, parent)
    if path.resolve() in (*above, parent.resolve()):
        raise ValueError(f"{parent}: {key}: {name} leads back to itself; remove one of the links")
    return path


def espnet_options(stage: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a stage's options that ESPnet's parser knows."""
    return {key: value for key, value in stage.items() if key not in PIPELINE_KEYS}


def _mapping(raw: Mapping[str, Any], key: str, path: Path) -> dict[str, Any]:
    value = raw.get(key)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ValueError(f"{path}: {key} must be a mapping, found {value!r}")
    return value


def _locate(name: str, parent: Path) -> Path:
    """A file named inside a YAML: relative to the working directory, else to that YAML."""
    direct = Path(name)
    if direct.is_absolute() or direct.is_file():
        return direct
    beside = parent.parent / name
    return beside if beside.is_file() else direct
