"""Whether a package may be used: everything that can be known before a model is built.

meta.yaml was read before. Here every configuration that a program would read is, its files are
looked for, and its numbers are compared with the shapes that stand in the header of its model file:
a configuration of absurd sizes would otherwise be built, for minutes, before it fits nothing.
"""

from __future__ import annotations

import os
import re
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from espnet_plugin.data.lm_spec import LM_OPTIONS, parse_lm
from espnet_plugin.packages.bounded_zip import bounded_zip
from espnet_plugin.packages.package import CONFIG, MODEL, Package
from espnet_plugin.packages.plain_yaml import read_plain
from espnet_plugin.packages.references import resolve
from espnet_plugin.packages.weights import Header, read_header

#: Parts of a model; numbers below other keys (optim_conf, ...) are of its training.
_PARTS = frozenset({
    "adapter_conf", "ctc_conf", "decoder_conf", "encoder_conf", "frontend_conf", "input_size",
    "joint_net_conf", "lm_conf", "model_conf", "normalize_conf", "postencoder_conf",
    "preencoder_conf", "preprocessor_conf", "specaug_conf",
})  # fmt: skip
#: Sampling rates, buckets of positions, ... : numbers of a configuration that are no tensor's size.
_LARGEST = 400_000
#: How often something is repeated: every repetition has a tensor.
_COUNTS = re.compile(r"(^|_)(num_blocks|blocks|num_layers|nlayers|layers|num_heads|heads)$")
_MELS, _TRANSFORM = 1024, 1 << 16
#: Bytes of feature statistics, unpacked.
_STATISTICS = 16 << 20
#: Options of a search: hypotheses, labels per frame.
_WIDEST = 10_000
#: Labels that may stand in a list though no tensor has so many rows.
_FEW_LABELS = 1000


def configurations(package: Package) -> dict[str, bool]:
    """YAML files that a program which uses the package reads -> whether it is the search's options.

    Raises:
        ValueError: the search's options cannot be read.
    """
    names = dict.fromkeys(package.yaml_files.values(), False)
    if package.decoding is None:
        return names
    for config, _ in _language_models(read_plain(package.decoding)):
        names[config] = False
    return {**names, str(package.extra["decoding"]): True}


def _language_models(options: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """ESPnet's language models of the search's options: configuration and parameters."""
    if options.get("lm_file"):
        beside = Path(str(options["lm_file"])).parent / "config.yaml"
        yield str(options.get("lm_train_config") or beside), str(options["lm_file"])
    for name in LM_OPTIONS:
        given = options.get(name) or []
        for text in given if isinstance(given, list) else [given]:
            spec = parse_lm(text)
            if spec.kind.startswith("espnet"):
                yield spec.config_path.as_posix(), spec.path.as_posix()


def members(root: Path) -> dict[str, Path]:
    """Files of a package's folder by name, hidden ones left out."""
    found = {}
    for folder, names, files in os.walk(root):
        names[:] = sorted(name for name in names if not name.startswith("."))
        for name in sorted(files):
            path = Path(folder) / name
            if not name.startswith("."):
                found[path.relative_to(root).as_posix()] = path
    return found


def inspect(package: Package) -> None:
    """Look at everything that using the package would read.

    Raises:
        ValueError: what is missing, lies elsewhere, is damaged, or does not fit together.
    """
    root = package.root.resolve()
    files = members(root)
    _check_links(root, files)
    content = {}
    for name, decoding in configurations(package).items():
        if name not in files:
            raise ValueError(f"{root}: lacks {name}, a configuration that is needed")
        data = read_plain(files[name])

        def locate(value: str) -> str | None:
            return str(files[value]) if value in files else None

        content[name] = resolve(data, locate, root / name, decoding=decoding)
        if decoding:
            _check_options(root / name, data)
    models = [(package.yaml_files[CONFIG], package.files[MODEL])]
    if package.decoding is not None:
        models += _language_models(read_plain(package.decoding))
    if "lm_file" in package.files and "lm_train_config" in package.yaml_files:
        models.append((package.yaml_files["lm_train_config"], package.files["lm_file"]))
    for config, weights in dict.fromkeys(models):
        if weights not in files:
            raise ValueError(f"{root}: lacks {weights}, the parameters of a model")
        _check_model(root / config, content[config], read_header(files[weights]))


def _check_links(root: Path, files: Mapping[str, Path]) -> None:
    """A folder may hold links, such as the Hub's client makes, but none that leads out of it.

    Raises:
        ValueError: naming one that does.
    """
    homes = [root]
    if root.parent.name == "snapshots":
        homes.append(root.parent.parent / "blobs")
    for name, path in files.items():
        target = path.resolve()
        if not any(target.is_relative_to(home) for home in homes):
            raise ValueError(
                f"{root}: {name} is a link that leads out of the package; put the file there"
            )
        if not target.is_file():
            raise ValueError(f"{root}: {name} is no file, or a link that leads nowhere")


def _check_model(source: Path, config: Mapping[str, Any], header: Header) -> None:
    """Compare a configuration with the shapes of its model.

    Raises:
        ValueError: naming a value that cannot be.
    """
    _check_labels(source, config.get("token_list"), header)
    for key, value in _numbers(config):
        limit = max(_LARGEST, header.largest)
        if _COUNTS.search(key):
            limit = max(len(header.shapes), header.largest)
        elif key == "n_mels":
            limit = _MELS
        elif key in ("n_fft", "win_length", "hop_length"):
            limit = _TRANSFORM
        elif key.endswith("size") or key.endswith("units"):
            limit = max(header.largest, _FEW_LABELS)
        if abs(value) > limit:
            raise ValueError(
                f"{source}: {key} is {value}, which does not fit its model file (no dimension "
                f"larger than {header.largest} in {len(header.shapes)} tensors)"
            )
    for key, file in _statistics(config):
        _check_statistics(source, key, Path(file))


def _check_options(source: Path, options: Mapping[str, Any]) -> None:
    for key, value in options.items():
        if isinstance(value, int) and value > _WIDEST:
            raise ValueError(f"{source}: {key} is {value}, larger than {_WIDEST}")


def _check_labels(source: Path, labels: Any, header: Header) -> None:
    limit = max(header.largest, _FEW_LABELS)
    count = len(labels) if isinstance(labels, list) else 0
    if isinstance(labels, str):
        with Path(labels).open("rb") as file:
            while count <= limit and (block := file.read(1 << 20)):
                count += block.count(b"\n")
    if count > limit:
        raise ValueError(
            f"{source}: token_list has more than {limit} labels, its model file no dimension "
            f"larger than {header.largest}"
        )


def _numbers(value: Any, key: str = "") -> Iterator[tuple[str, float]]:
    """Numbers of the parts of a model, each with the key that it stands under."""
    if isinstance(value, Mapping):
        for inner_key, inner in value.items():
            if key or inner_key in _PARTS:
                yield from _numbers(inner, str(inner_key))
    elif isinstance(value, list):
        for inner in value:
            yield from _numbers(inner, key)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield key, value


def _statistics(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping):
        for inner_key, inner in value.items():
            yield from _statistics(inner, str(inner_key))
    elif key == "stats_file" and isinstance(value, str) and value:
        yield key, value


def _check_statistics(source: Path, key: str, file: Path) -> None:
    """numpy's files are zip files too, and may say much in few bytes.

    Raises:
        ValueError: it does.
    """
    size = file.stat().st_size
    if zipfile.is_zipfile(file):
        with bounded_zip(file) as archive:
            size = max(size, sum(info.file_size for info in archive.infolist()))
    if size > _STATISTICS:
        raise ValueError(f"{source}: {key}: {size} bytes are too many for statistics of features")
