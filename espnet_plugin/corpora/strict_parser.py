"""Argument parsers that take options by their whole names only.

argparse takes `--prior_scal 0.3` for whatever option begins so, silently, or for another one than
was meant; a key of a YAML file that becomes an option has the same fate.
"""

from __future__ import annotations

import argparse
import difflib
import re
from collections.abc import Iterable
from typing import Any, NoReturn


class StrictParser(argparse.ArgumentParser):
    """`argparse.ArgumentParser` without abbreviations, whose errors name the nearest option."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{**kwargs, "allow_abbrev": False})

    def error(self, message: str) -> NoReturn:
        """As argparse's, with what may have been meant."""
        super().error(message + did_you_mean(self, message))


def make_strict(parser: argparse.ArgumentParser) -> None:
    """Turn abbreviations off in a parser that somebody else made (ESPnet's)."""
    parser.allow_abbrev = False
    plain = parser.error

    def error(message: str) -> NoReturn:
        plain(message + did_you_mean(parser, message))

    setattr(parser, "error", error)  # noqa: B010  (mypy: a method)


def nearest(name: str, known: Iterable[str], cutoff: float = 0.6) -> str:
    """ " (did you mean ...?)" for an unknown name; empty if nothing is near."""
    found = difflib.get_close_matches(name, list(known), n=1, cutoff=cutoff)
    return f" (did you mean {found[0]}?)" if found else ""


def did_you_mean(parser: argparse.ArgumentParser, message: str) -> str:
    """ " (did you mean ...?)" for unknown options in an error message; empty if nothing is near."""
    known = [name for name in parser._option_string_actions if name.startswith("--")]
    _, unrecognized, given = message.partition("unrecognized arguments:")
    if not unrecognized:
        return ""
    for word in re.findall(r"[\w-]+", given):
        name = "--" + word.lstrip("-").partition("=")[0]
        near = nearest(name, known, cutoff=0.7)
        if near and name not in known:
            return near
    return ""
