"""No two places of the package share a run of 12 lines, the same or of the same shape."""

from __future__ import annotations

import io
import keyword
import tokenize
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
RUN = 12
#: Runs of which at most so many lines do something do not count: fields,
#: parameters and tables of different things look alike.
THIN = 6
_LAYOUT = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT}
_STRINGS = {tokenize.STRING, tokenize.FSTRING_START, tokenize.FSTRING_MIDDLE, tokenize.FSTRING_END}


def shape(token: tokenize.TokenInfo) -> str:
    """Keywords and operators as they are; all names, numbers and strings alike."""
    if token.type == tokenize.NAME:
        return token.string if keyword.iskeyword(token.string) else "name"
    if token.type == tokenize.NUMBER:
        return "0"
    return "text" if token.type in _STRINGS else token.string


def lines_of(source: str) -> list[tuple[int, str]]:
    """(number, shape) of every line of code: no comments, imports or lone punctuation."""
    tokens: dict[int, list[str]] = defaultdict(list)
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in _LAYOUT:
            tokens[token.start[0]].append(shape(token))
    return [
        (number, " ".join(shapes))
        for number, shapes in sorted(tokens.items())
        if shapes[0] not in ("import", "from") and any(map(str.isalnum, shapes))
    ]


def does_something(line: str) -> bool:
    """Not a field, a parameter or a row of a table."""
    words = line.split()
    acts = "=" in words or "(" in words or any(map(keyword.iskeyword, words))
    return acts and words[1:2] != [":"]


def repetitions(sources: dict[str, str]) -> list[str]:
    """Pairs of places that share a run."""
    seen: dict[tuple[str, ...], str] = {}
    found = []
    for name, source in sources.items():
        lines = lines_of(source)
        for start in range(len(lines) - RUN + 1):
            run = tuple(text for _, text in lines[start : start + RUN])
            if sum(map(does_something, run)) <= THIN:
                continue
            place = f"{name}:{lines[start][0]}"
            if run in seen:
                found.append(f"{seen[run]} ~ {place}")
            seen.setdefault(run, place)
    return found


def test_the_package_says_everything_once() -> None:
    package = sorted((ROOT / "espnet_plugin").rglob("*.py"))
    sources = {str(path.relative_to(ROOT)): path.read_text(encoding="utf-8") for path in package}
    assert repetitions(sources) == []


def test_a_copy_with_other_names_is_found() -> None:
    body = "".join(f"    value{n} = call(argument, {n})[{n}] + other\n" for n in range(RUN))
    other = body.replace("value", "result").replace("argument", "text")
    sources = {"a.py": f"def one():\n{body}", "b.py": f"def two():\n    pass\n{other}"}
    assert repetitions(sources) == ["a.py:2 ~ b.py:3"]
    shorter = "".join(other.splitlines(keepends=True)[1:])
    assert repetitions({**sources, "b.py": f"def two():\n{shorter}"}) in ([], ["a.py:1 ~ b.py:1"])
