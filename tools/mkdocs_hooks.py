"""Hooks of mkdocs: pages that stand outside docs/, and links as they are written for GitHub.

Contributing, changes and results keep their places in the repository; the site shows them under
the same paths. A link to one of them, or from one of them into docs/, is written relative to the
file, and leads to the page. A link to another file of the repository becomes its text. A link to a
file that does not exist is a warning, that is an error with `strict`.
"""

from __future__ import annotations

import logging
import os
import re
from pathlib import Path
from posixpath import dirname, normpath, relpath

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files, InclusionLevel
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
OUTSIDE = ["CONTRIBUTING.md", "CHANGELOG.md", "benchmarks/**/*.md", "egs2/*/asr1/*.md"]
#: [text](target), but not an image and not inside `code`.
LINK = re.compile(r"(`+[^`]*`+)|(?<!!)\[((?:[^\[\]`]|`[^`]*`)*)\]\(([^()\s]+)\)")
FENCE = re.compile(r"^\s*(```|~~~)")

log = logging.getLogger("mkdocs.plugins.repository")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the documents outside docs/."""
    for pattern in OUTSIDE:
        for path in sorted(ROOT.glob(pattern)):
            name = path.relative_to(ROOT).as_posix()
            level = InclusionLevel.NOT_IN_NAV  # may be in it, need not
            files.append(File.generated(config, name, abs_src_path=str(path), inclusion=level))
    return files


def repository_path(file: File, config: MkDocsConfig) -> str:
    """Where a page's source lies, from the root of the repository."""
    return Path(os.path.realpath(file.abs_src_path or "")).relative_to(ROOT).as_posix()


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turns the page's links, which are right in the repository, into links of the site."""
    source = repository_path(page.file, config)

    def turned(match: re.Match[str]) -> str:
        code, text, target = match.groups()
        if code or target.startswith("#") or "://" in target or target.startswith("mailto:"):
            return match[0]
        path, mark, anchor = target.partition("#")
        path = normpath(f"{dirname(source)}/{path}") if dirname(source) else normpath(path)
        if not (ROOT / path).exists():
            log.warning("%s links to %s, which does not exist", source, path)
            return match[0]
        found = files.get_file_from_path(path.removeprefix("docs/"))
        if found is None:
            return text
        start = dirname(page.file.src_uri) or "."
        return f"[{text}]({relpath(found.src_uri, start)}{mark}{anchor})"

    lines, inside = [], False
    for line in markdown.split("\n"):
        if FENCE.match(line):
            inside = not inside
        lines.append(line if inside else LINK.sub(turned, line))
    return "\n".join(lines)
