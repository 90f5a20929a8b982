"""YAML from strangers: plain data of bounded size, read in bounded time.

YAML can say much in few bytes: an alias repeats what an anchor named, and aliases of aliases grow
without end; nesting exhausts the stack; ``1:1:1:1`` is a number to base 60. A configuration needs
none of it, so the events of the file are looked at before anything is made of them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

#: Bytes of a file. ESPnet reads it again with a slower reader, 1 MiB of tokens in some 3 s.
LARGEST = 1 << 20
#: Values, keys and brackets; a list of 65,000 tokens fits.
_EVENTS = 100_000
_DEPTH = 40
#: Characters of a value that is not in quotes: numbers and dates are made of these.
_SCALAR = 4096
#: Keys of one table; keys can be chosen such that looking them up takes long.
_KEYS = 5_000
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_DUMPER: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


def read_plain(path: Path) -> dict[str, Any]:
    """A mapping in a YAML file of a package.

    Raises:
        ValueError: missing, too large, with aliases, not plain data, or not a mapping. The message
            holds nothing of the file's content.
    """
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST + 1)
    except FileNotFoundError:
        raise ValueError(
            f"{path.parent}: has no {path.name}, so it is not a packed model"
        ) from None
    if len(content) > LARGEST:
        raise ValueError(f"{path}: larger than {LARGEST} bytes, too large for a configuration")
    try:
        text = content.decode("utf-8-sig")
        _check_events(text)
        data = yaml.load(text, _LOADER)
    except yaml.MarkedYAMLError as error:
        line = "" if error.problem_mark is None else f" (line {error.problem_mark.line + 1})"
        raise ValueError(f"{path}: not plain YAML{line}") from None
    except _NotPlain as error:
        raise ValueError(f"{path}: not plain YAML: {error}") from None
    except Exception as error:  # constructors of numbers and dates raise many kinds
        raise ValueError(f"{path}: not plain YAML ({type(error).__name__})") from None
    if not isinstance(data, dict):
        raise ValueError(f"{path}: expected a mapping, found {type(data).__name__}")
    return data


def dump_plain(data: Any) -> str:
    """The same as text, without aliases: plain data of ours holds no list twice."""
    text: str = yaml.dump(data, Dumper=_DUMPER, allow_unicode=True)
    return text


class _NotPlain(Exception):
    """What a file holds that a configuration has no use for."""


def _check_events(text: str) -> None:
    # of the open tables and lists: how many more keys and values they may have
    left: list[int] = []
    for number, event in enumerate(yaml.parse(text, _LOADER)):
        line = event.start_mark.line + 1 if event.start_mark is not None else 0
        if number > _EVENTS:
            raise _NotPlain(f"more than {_EVENTS} values (line {line})")
        if isinstance(event, yaml.AliasEvent):
            raise _NotPlain(f"it uses an alias (line {line}); write the value out")
        if isinstance(event, yaml.CollectionEndEvent):
            left.pop()
        elif isinstance(event, yaml.NodeEvent):
            if left:
                left[-1] -= 1
                if left[-1] < 0:
                    raise _NotPlain(f"a table of more than {_KEYS} keys (line {line})")
            if isinstance(event, yaml.ScalarEvent):
                _check_scalar(event, line)
            else:
                mapping = isinstance(event, yaml.MappingStartEvent)
                left.append(2 * _KEYS if mapping else _EVENTS)
                if len(left) > _DEPTH:
                    raise _NotPlain(f"nested deeper than {_DEPTH} (line {line})")


def _check_scalar(event: yaml.ScalarEvent, line: int) -> None:
    quoted_text = event.tag is None and not event.implicit[0]
    if len(event.value) > _SCALAR and not quoted_text:
        raise _NotPlain(f"a value of {len(event.value)} characters (line {line})")
