"""Texts and configurations without the packer's machine in them: no absolute path survives."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

# A path of two or more parts that is no web address, fraction or relative path.
_ABSOLUTE = re.compile(r"(?<![\w:/.~@<>-])/[\w.+@%=~-]+(?:/[\w.+@%=~-]+)+/?")
#: Where a recipe's paths begin; what stands before them says where the recipe was.
_BEGINNINGS = ("exp", "dump", "data", "conf", "local")
#: Lists of labels: "/" may be a label.
VOCABULARY = frozenset({"token_list", "non_speech_labels"})


class Places:
    """Replaces absolute paths by ones relative to a recipe.

    Args:
        known: folders and what stands for them, such as ``/home/me/exp/tag`` -> ``exp/tag``; an
            empty name drops the folder. Longer ones are tried first.
    """

    def __init__(self, known: Mapping[Path, str]) -> None:
        table = {path: name for path, name in known.items() if path.is_absolute()}
        table.update({path.resolve(): name for path, name in table.items()})
        self._known = sorted(table.items(), key=lambda pair: -len(pair[0].parts))

    def clean(self, text: str) -> str:
        """A text, all absolute paths in it replaced."""
        for folder, name in self._known:
            if folder.parts[1:]:
                replacement = f"{name}/" if name else ""
                text = text.replace(f"{folder}/", replacement)
                text = re.sub(rf"{re.escape(str(folder))}(?![\w.-])", name or ".", text)
        text = _ABSOLUTE.sub(lambda match: self._shorten(match[0]), text)
        # A value that is one path altogether may have one part alone, or spaces.
        return self._shorten(text) if re.match(r"^/[^/\s]", text) else text

    def _shorten(self, path: str) -> str:
        parts = PurePosixPath(path).parts[1:]
        starts = [n for n, part in enumerate(parts[:-1]) if part in _BEGINNINGS]
        return "/".join(parts[starts[-1] :]) if starts else parts[-1]

    def clean_data(self, value: Any) -> Any:
        """Plain data of YAML or JSON, all absolute paths in it replaced."""
        if isinstance(value, Mapping):
            return {
                key: inner if key in VOCABULARY else self.clean_data(inner)
                for key, inner in value.items()
            }
        if isinstance(value, str):
            return self.clean(value)
        if isinstance(value, Sequence):
            return [self.clean_data(inner) for inner in value]
        return value


def replace_members(value: Any, members: Mapping[str, str]) -> Any:
    """Plain data in which every name of a member, whole or in KIND:FILE:SCALE, is replaced."""
    if isinstance(value, Mapping):
        return {
            key: inner if key in VOCABULARY else replace_members(inner, members)
            for key, inner in value.items()
        }
    if isinstance(value, str):
        return ":".join(members.get(part, part) for part in value.split(":"))
    if isinstance(value, Sequence):
        return [replace_members(inner, members) for inner in value]
    return value
