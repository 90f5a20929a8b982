"""Files that a package's configurations name: all of them lie in the package.

A configuration is the stranger's, and what it names is opened by ESPnet, by front ends and by our
search, each under keys of its own. So no list of keys decides what is a path: a text under a key
that speaks of files, and any text that looks like a path, names a member of the package, or the
package is refused. Where training data was, is left out: no program that uses a model needs it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from espnet_plugin.data.lm_spec import LM_OPTIONS, parse_lm
from espnet_plugin.packages.portable import VOCABULARY

#: Options that say where training data was; nothing in a package needs them. What a model has to
#: import stands in meta.yaml, where it imports nothing (`imports`).
TRAINING_ONLY = frozenset({
    "config", "output_dir", "init_param", "pretrain_path", "rir_scp", "noise_scp",
    "train_data_path_and_name_and_type", "valid_data_path_and_name_and_type",
    "imports", "train_shape_file", "valid_shape_file", "dist_init_method", "deepspeed_config",
})  # fmt: skip
#: Words in the names of keys whose texts are opened: by ESPnet, its front ends, or our search.
_FILE_WORDS = frozenset({
    "bpemodel", "checkpoint", "ckpt", "config", "dict", "dir", "directory", "enroll", "file",
    "files", "filename", "folder", "lexicon", "list", "path", "scp", "stats", "symbols", "txt",
    "url",
})  # fmt: skip
#: Keys of front ends and encoders that name a published model, or a file if there is such a one.
_NAMES_OR_FILES = frozenset({"model", "opt_name", "upstream", "whisper_model"})
#: Lists below these keys hold labels, in which "/" means nothing.
_LABELS = VOCABULARY | {"non_linguistic_symbols", "transcript_token_list"}
_KEYED = re.compile(r"^\w+2\w+$")  # utt2spk, spk2utt, lang2utt
_LOOKS_LIKE_A_PATH = re.compile(r"[/\\\0]|^~|^\.\.?$|^\$")
#: What a name stands for: an absolute path, or None if the package has no such file.
Locate = Callable[[str], str | None]


def resolve(
    data: Mapping[str, Any], locate: Locate, source: Path, *, decoding: bool = False
) -> dict[str, Any]:
    """A configuration with every file it names replaced by where that is.

    Args:
        data: of a YAML file of the package.
        locate: of names relative to the package's folder.
        source: the YAML file, for messages.
        decoding: options of the search, of which some hold KIND:FILE:SCALE.

    Raises:
        ValueError: it names something that is no file of the package.
    """

    def named(key: str, value: str) -> str:
        place = locate(value)
        if place is None:
            raise ValueError(
                f"{source}: {key} names {value}, which the package lacks; pack the model again "
                "with espnet-progressive pack"
            )
        return place

    def visit_table(table: Mapping[str, Any], top: bool = False) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for key, value in table.items():
            if key in TRAINING_ONLY or str(key).startswith("wandb_"):
                result[key] = [] if isinstance(value, list) else None
            elif key in _LABELS and isinstance(value, list):
                result[key] = value
            else:
                result[key] = visit(value, str(key), top)
        return result

    def visit(value: Any, key: str, top: bool) -> Any:
        if isinstance(value, Mapping):
            return visit_table(value)
        if isinstance(value, list | tuple):
            return [visit(inner, key, top) for inner in value]
        if not isinstance(value, str) or not value:
            return value
        if decoding and key in LM_OPTIONS:
            return _language_model(key, value, named)
        # at the top, `model` is the name of a class
        file_or_name = not top and key in _NAMES_OR_FILES and os.path.lexists(value)
        if _is_file_key(key) or file_or_name or _LOOKS_LIKE_A_PATH.search(value):
            return named(key, value)
        return value

    return visit_table(data, top=True)


def _is_file_key(key: str) -> bool:
    return bool(set(key.lower().split("_")) & _FILE_WORDS or _KEYED.match(key))


def _language_model(key: str, text: str, named: Callable[[str, str], str]) -> str:
    """KIND:FILE:SCALE with the file, and its configuration, where they are."""
    spec = parse_lm(text)
    path = Path(named(key, spec.path.as_posix()))
    if not spec.kind.startswith("espnet"):
        return str(replace(spec, path=path))
    config = Path(named(key, spec.config_path.as_posix()))
    return str(replace(spec, path=path, config=config))
