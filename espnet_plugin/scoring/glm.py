"""NIST's global mapping rules (GLM): which spellings count as the same word.

A file of ``SOURCE => TARGET / [left] __ [right]`` lines, format "NIST1". The text, in upper case
and with a space around it, is read from left to right; at each character the first rule of the
file whose source stands there, between its contexts, writes its target, and reading goes on behind
the source. A rule without contexts thus changes parts of words too. Targets in braces are
alternatives, ``{I'VE / I HAVE}``.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from espnet_plugin.corpora.text_lines import SPACES, single_spaced

_REGION = re.compile(r'^;;\s+INPUT_DEPENDENT_APPLICATION\s*=\s*"([^"]*)"')
_RULE = re.compile(r"^(?P<source>.*?)=>(?P<rest>.*)$")
_CONTEXT = re.compile(r"/(?P<left>[^/]*?)__?(?P<right>[^/]*)$")


@dataclass(frozen=True)
class Rule:
    """One rule; the contexts may be empty."""

    source: str
    target: str
    left: str = ""
    right: str = ""


class MappingRules:
    """Rules in the order of their file."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        self._by_character: dict[str, list[Rule]] = {}
        for rule in rules:
            self._by_character.setdefault(rule.source[0], []).append(rule)

    def apply(self, text: str) -> str:
        """Map an upper-case text."""
        text = f" {single_spaced(text)} "
        written: list[str] = []
        at = 0
        while at < len(text):
            for rule in self._by_character.get(text[at], ()):
                end = at + len(rule.source)
                if (
                    text.startswith(rule.source, at)
                    and text.startswith(rule.right, end)
                    and text.endswith(rule.left, 0, at)
                ):
                    written.append(rule.target)
                    at = end
                    break
            else:
                written.append(text[at])
                at += 1
        return single_spaced("".join(written))


def parse_glm(text: str, source: str, kinds: Collection[str] = ()) -> MappingRules:
    """Parse a file.

    Args:
        text: of the file.
        source: its name, for messages.
        kinds: what is to be mapped, such as ``{"stm", "ref"}``; regions of the file can be meant
            for only one kind (``;; INPUT_DEPENDENT_APPLICATION = "ref"``).

    Raises:
        ValueError: a line that is no rule, or another format than NIST1.
    """
    rules = []
    applies = True
    for number, line in enumerate(text.split("\n"), 1):
        if match := _REGION.match(line):
            pattern = re.compile(match[1].lower())
            applies = any(pattern.search(kind) for kind in kinds)
        line = line.split(";;")[0].strip(SPACES)
        if line.startswith("*"):
            if re.match(r"\*\s*format\b", line, re.IGNORECASE) and "NIST1" not in line:
                raise ValueError(f"{source}:{number}: format NIST1 is needed, not {line!r}")
        elif line and applies:
            rules.append(_parse_rule(line, f"{source}:{number}"))
    return MappingRules(rules)


def _parse_rule(line: str, where: str) -> Rule:
    match = _RULE.match(line)
    if match is None or not _bare(match["source"]):
        raise ValueError(f"{where}: not 'SOURCE => TARGET / [left] __ [right]': {line[:80]!r}")
    target, left, right = match["rest"], "", ""
    if context := _CONTEXT.search(target):
        left, right = _bare(context["left"]), _bare(context["right"])
        target = target[: context.start()]
    return Rule(_bare(match["source"]), _bare(target), left, right)


def _bare(text: str) -> str:
    """What stands between the brackets or quotation marks, in upper case."""
    text = text.strip(SPACES)
    if len(text) > 1 and (text[0], text[-1]) in (("[", "]"), ('"', '"')):
        text = text[1:-1]
    return text.upper()
